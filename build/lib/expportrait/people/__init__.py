"""The persons of a manifest, compared by their faces: names of one person, people under one name (docs/people.md)."""
