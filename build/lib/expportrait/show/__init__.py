"""What people look at: pictures, films and mesh files of one clip's results."""
