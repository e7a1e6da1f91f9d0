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

from llmbatch.database import read_database
from llmbatch.environment import (
    is_path,
    load_env_file,
    load_secret,
    prepare_folder,
    read_allowed_hosts,
    read_bool,
    read_choice,
    read_host,
    read_int,
    read_list,
    read_origins,
    read_redis_url,
    read_secret,
    read_text,
    read_url,
    refuse_misspelt,
)
from llmbatch.logs import LOG_FILES, logging_config
from settings_app.model_key import validate_key, validate_model

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = BASE_DIR / "data"
TESTING = "pytest" in sys.modules
if not TESTING:
    load_env_file(BASE_DIR / ".env")

DEBUG = read_bool("DJANGO_DEBUG", False)
SECRET_KEY = read_secret("DJANGO_SECRET_KEY") or load_secret(DATA_DIR / "secret_key")
ALLOWED_HOSTS = read_allowed_hosts("DJANGO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
SETTINGS_ENCRYPTION_KEYS = read_list("SETTINGS_ENCRYPTION_KEYS", [])

HOST = read_host("HOST", "127.0.0.1")
PORT = read_int("PORT", 8000, least=1, most=65_535)
API_ACCESS = read_choice("API_ACCESS", "open" if DEBUG else "key", ("open", "key"))
GEMINI_API_KEY = read_text("GEMINI_API_KEY", "", validate_key, "a key as Google shows it")
GEMINI_MODEL = read_text("GEMINI_MODEL", "gemini-3.8-flash", validate_model, "a model's name")
GEMINI_BASE_URL = read_url("GEMINI_BASE_URL")
GEMINI_API_VERSION = read_text(
    "GEMINI_API_VERSION", "v1beta", validate_model, "a version such as v1beta"
)
MODEL_CALL_SLOTS = read_int("MODEL_CALL_SLOTS", 16, least=1, most=1000)
ASYNC_DEADLINE_S = read_int("ASYNC_DEADLINE_S", 3600, least=1, most=30 * 86_400)
LEASE_S = read_int("LEASE_S", 15, least=2, most=3600)
DRAIN_S = read_int("DRAIN_S", 20, least=0, most=3600)
LOG_DIR = Path(read_text("LOG_DIR", str(BASE_DIR / "logs"), is_path, "the path of a folder"))
LOG_FORMAT = read_choice("LOG_FORMAT", "text", ("text", "json"))
LOG_PROMPTS = read_bool("LOG_PROMPTS", True)

TLS_PROXY = read_bool("TLS_PROXY", False)
if TLS_PROXY:
    # Safe only behind a proxy that always sets this header itself.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
MAX_CONNECTIONS_PER_ADDRESS = read_int("MAX_CONNECTIONS_PER_ADDRESS", 1000, least=1, most=100_000)
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
    "llmbatch.middleware.cors.CorsMiddleware",
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

DATABASES = {"default": read_database("DATABASE_URL", default=DATA_DIR / "gateway.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = read_redis_url("REDIS_URL")
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

CORS_ALLOWED_ORIGINS = read_origins("CORS_ALLOWED_ORIGINS")
# Without a list, the middleware decides about each request by the model that answers.
CORS_BY_MODEL = DEBUG and not CORS_ALLOWED_ORIGINS
CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ALLOWED_ORIGINS
if CORS_ALLOW_ALL_ORIGINS and not DEBUG:
    raise ImproperlyConfigured("CORS_ALLOWED_ORIGINS=* needs DJANGO_DEBUG: list the origins.")
CORS_ALLOWED_ORIGINS = [origin for origin in CORS_ALLOWED_ORIGINS if origin != "*"]
# Browsers must ask again, because the answer changes when a real key is stored.
CORS_PREFLIGHT_MAX_AGE = 0 if CORS_BY_MODEL else 86_400
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
# Failures are counted per username and address together: by username alone, anyone could lock the
# admin out. A larger number of failures locks the address, see `login_throttle.py`.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True  # its rows would never be deleted
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
PASSWORD_HASHERS = ["settings_app.access.passwords.BackgroundPBKDF2"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
APPEND_SLASH = True

refuse_misspelt()
if not TESTING:
    prepare_folder("LOG_DIR", LOG_DIR, [LOG_DIR / name for name in LOG_FILES])
LOGGING = logging_config(directory=LOG_DIR, line_format=LOG_FORMAT, to_files=not TESTING)
