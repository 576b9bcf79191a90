"""Report to text, Markdown and JSON; pure, and the only place where sentences are put together."""
