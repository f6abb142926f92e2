"""Training: procedural and real clips, simulated clicks, the losses of SAM 2 and a loop that resumes."""
