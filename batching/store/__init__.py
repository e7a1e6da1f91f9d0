"""The ORM functions of the gateway: they run in database threads and change or read its tables."""
