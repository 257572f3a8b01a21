"""One HTML page on a whole run: ``page`` puts it together, ``card`` makes one clip's media, the rest draws."""
