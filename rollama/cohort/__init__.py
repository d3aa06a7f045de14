"""The synthetic multi-centre cohort: patients, notes, plans, CT phantoms and targets, all made by rules."""
