"""Text that tools print on Windows, wherever it stands in a file: licences, name resolution, port tests."""
