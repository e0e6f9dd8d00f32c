"""Tables, figures, example pictures and the HTML page, made from stored measurements only."""
