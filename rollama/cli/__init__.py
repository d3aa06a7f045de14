"""The `rollama` command: one file a verb, heavy imports only inside the verbs that need them."""
