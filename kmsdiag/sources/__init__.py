"""Opens files and standard input, unpacks them, and recognises by content what they are."""
