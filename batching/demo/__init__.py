"""Made-up history that fills a database for demos and measurements."""
