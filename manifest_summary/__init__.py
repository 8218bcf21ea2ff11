"""What a manifest says, for people: one text for terminal, pages and the review of changes.

It knows neither a terminal nor Django. Whoever shows it shows all of it (`manifest_summary.summary`).
"""
