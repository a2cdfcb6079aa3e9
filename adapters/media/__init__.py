"""Files of messages: named, checked, stored, and fetched from where a stranger says they are."""
