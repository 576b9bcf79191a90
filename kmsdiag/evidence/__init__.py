"""Other people's files as facts: bytes that a program or a machine wrote, turned into values of the model."""
