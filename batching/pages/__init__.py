"""The HTML pages: their views, figures, charts, timelines and lists."""
