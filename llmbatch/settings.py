"""The settings of the project. Environment variables decide them; all have defaults.

`docs/configuration.md` lists the variables.
"""

import hashlib
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from corsheaders.defaults import default_headers
from django.core.exceptions import ImproperlyConfigured

from llmbatch.environment import (
    env,
    load_secret,
    read_bool,
    read_choice,
    read_int,
    read_list,
    read_url,
)
from llmbatch.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = BASE_DIR / "data"
TESTING = "pytest" in sys.modules
if not TESTING:
    env.read_env(BASE_DIR / ".env")

DEBUG = read_bool("DJANGO_DEBUG", False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", default="") or load_secret(DATA_DIR / "secret_key")
ALLOWED_HOSTS = read_list("DJANGO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
SETTINGS_ENCRYPTION_KEYS = read_list("SETTINGS_ENCRYPTION_KEYS", [])

HOST = env.str("HOST", default="127.0.0.1")
PORT = read_int("PORT", 8000, least=1, most=65_535)
API_ACCESS = read_choice("API_ACCESS", "open" if DEBUG else "key", ("open", "key"))
GEMINI_API_KEY = env.str("GEMINI_API_KEY", default="").strip()
GEMINI_MODEL = env.str("GEMINI_MODEL", default="") or "gemini-3.8-flash"
GEMINI_BASE_URL = read_url("GEMINI_BASE_URL")
GEMINI_API_VERSION = env.str("GEMINI_API_VERSION", default="") or "v1beta"
MODEL_CALL_SLOTS = read_int("MODEL_CALL_SLOTS", 16, least=1, most=1000)
ASYNC_DEADLINE_S = read_int("ASYNC_DEADLINE_S", 3600, least=1, most=30 * 86_400)
LEASE_S = read_int("LEASE_S", 15, least=2, most=3600)
DRAIN_S = read_int("DRAIN_S", 20, least=0, most=3600)
LOG_DIR = Path(env.str("LOG_DIR", default="") or BASE_DIR / "logs")
LOG_FORMAT = read_choice("LOG_FORMAT", "text", ("text", "json"))
LOG_PROMPTS = read_bool("LOG_PROMPTS", True)

TLS_PROXY = read_bool("TLS_PROXY", False)
if TLS_PROXY:
    # Safe only behind a proxy that always sets this header itself.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
TRUSTED_PROXIES = read_int("TRUSTED_PROXIES", 1, least=1, most=10)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS_PROXY
HSTS_S = read_int("HSTS_S", 31_536_000, least=0, most=63_072_000)
SECURE_HSTS_SECONDS = HSTS_S if TLS_PROXY else 0
# Subdomains and the preload list concern the whole domain, so its owner decides about them.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SILENCED_SYSTEM_CHECKS += ["axes.W002"]  # The login page does the work of its middleware.

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "channels",
    "settings_app.apps.SettingsAppConfig",
    "chats.apps.ChatsConfig",
    "batching.apps.BatchingConfig",
    "llmbatch",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "llmbatch.middleware.content_security.ContentSecurityMiddleware",
    "llmbatch.middleware.static_files.StaticMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "llmbatch.middleware.json_errors.JsonErrorMiddleware",
    "llmbatch.middleware.body_limit.BodyLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "llmbatch.urls"
ASGI_APPLICATION = "llmbatch.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'gateway.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATA_DIR.mkdir(exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        # A transaction takes the write lock when it begins: it waits for its turn instead of
        # failing in the middle with "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["default"] |= {
        "CONN_HEALTH_CHECKS": True,
        # A cursor on the server belongs to a session. Behind a pooler in transaction mode, the next
        # statement may run in another session.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        # The next transaction connects again after an outage of the server. The pool's own pauses
        # double with each failure; after a long restart they would last as long as the restart.
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 16, "timeout": 3, "reconnect_timeout": 1}},
    }

REDIS_URL = env.str("REDIS_URL", default="")
BATCHING_CHANNEL = "batching"
if REDIS_URL:
    # Redis publishes across its database numbers, so two gateways on one Redis server would receive
    # each other's messages under the same channel name.
    fleet = f"{DATABASES['default']['NAME']} {urlsplit(REDIS_URL).path}"
    BATCHING_CHANNEL += f".{hashlib.sha256(fleet.encode()).hexdigest()[:12]}"
    # Publish and subscribe: every worker receives every announcement. Periodic reads of the
    # database make up for lost messages.
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
    }
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"capacity": 20_000},
        }
    }

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["settings_app.json_bodies.StrictJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "settings_app.access.auth.BearerKey",
        "settings_app.access.auth.StaffSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["settings_app.access.auth.StaffOrOpenAccess"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "settings_app.json_bodies.JsonForEverybody",
    "EXCEPTION_HANDLER": "llmbatch.errors.handle_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNICODE_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "DEFAULT_GENERATOR_CLASS": "llmbatch.openapi.describe.Generator",
    "OAS_VERSION": "3.1.0",
    "TITLE": "LLM Batch API",
    "DESCRIPTION": "Combines prompts of many clients into one model call and returns to each client"
    " its own answer. Every error has the form `{detail, code, errors?}`; 429 and 503 have a"
    " `Retry-After` header. With `API_ACCESS=open` no key is needed.",
    "VERSION": "1",
    "TAGS": [
        {"name": name} for name in ("Prompts", "OpenAI", "Records", "Settings", "Health", "Schema")
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # docstrings are for readers of the code
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_SUFFIX": "",
    "ENUM_NAME_OVERRIDES": {
        "RequestStatus": "chats.models.Status",
        "PriorityNumber": "settings_app.models.Priority",
        "PriorityLabel": ["High", "Medium", "Low"],
        "BatchScope": "settings_app.models.BatchScope.values",
        "NotReadyCode": ["not_ready"],
        "Alive": ["ok"],
        "Unavailable": ["unavailable"],
    },
}
MAX_BODY_BYTES = 1_000_000  # of an API request
# Forms of the pages may be larger. The server refuses what exceeds this bound on any path.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * MAX_BODY_BYTES

if "*" in read_list("CORS_ALLOWED_ORIGINS", []) and not DEBUG:
    raise ImproperlyConfigured("CORS_ALLOWED_ORIGINS=* needs DJANGO_DEBUG: list the origins.")
CORS_ALLOWED_ORIGINS = [o for o in read_list("CORS_ALLOWED_ORIGINS", []) if o != "*"]
CORS_ALLOW_ALL_ORIGINS = DEBUG and read_list("CORS_ALLOWED_ORIGINS", ["*"]) == ["*"]
CORS_URLS_REGEX = r"^/(v1|health)(/.*)?$"
CORS_ALLOW_HEADERS = [*default_headers, "prefer", "x-request-id", "idempotency-key"]
CORS_ALLOW_HEADERS += [  # sent by OpenAI's client in a browser
    f"x-stainless-{name}"
    for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version")
]
CORS_ALLOW_HEADERS += [
    f"x-stainless-{name}" for name in ("retry-count", "timeout", "helper-method", "poll-helper")
]
CORS_EXPOSE_HEADERS = ["Location", "Retry-After", "X-Request-Id", "X-Should-Retry"]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "llmbatch.formats"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "llmbatch.middleware.static_files.StaticStorage"},
}
WHITENOISE_USE_FINDERS = True  # serves files before `collectstatic`, too
WHITENOISE_AUTOREFRESH = DEBUG
AUTHENTICATION_BACKENDS = [
    "settings_app.access.login_throttle.ThrottledLogin",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_HANDLER = "settings_app.access.login_throttle.CountAhead"
AXES_CLIENT_IP_CALLABLE = "settings_app.access.login_throttle.find_address"
# Failures are counted per username and address together. By username alone, anyone could lock the
# admin out; by address alone, one person could lock out everybody behind the same address.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True  # its rows would never be deleted
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
APPEND_SLASH = True

LOGGING = logging_config(directory=LOG_DIR, line_format=LOG_FORMAT, to_files=not TESTING)
