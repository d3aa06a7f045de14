"""The whole way for one patient: note + CT -> summary -> plan -> target, and the files it leaves."""
