"""Measuring S, P and SEG: text overlap, plan fields, masks in mm, baselines, confidence intervals, the report."""
