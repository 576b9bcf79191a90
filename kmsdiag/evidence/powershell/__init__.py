"""Objects that PowerShell wrote as JSON, and the scripts that gather on Windows."""
