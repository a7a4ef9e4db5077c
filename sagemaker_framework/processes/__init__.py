"""The processes of this host: how they start, what they write, how they end."""
