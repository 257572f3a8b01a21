"""From data sets' own annotation files and the user's videos to manifest rows. Nothing is ever downloaded."""
