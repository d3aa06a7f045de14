"""The male pelvis, the cohort's second site: patients, phantom and targets (see `rollama.cohort.prostate`)."""
