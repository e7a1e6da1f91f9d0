"""The Django project: settings, routes, middleware, server and API description."""

VERSION = "0.1.0"
