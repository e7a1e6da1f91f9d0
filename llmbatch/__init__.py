"""The Django project: settings, routes, middleware, server and API description."""
