"""Between a policy and a robot: what corrects commands, gives alarm or attacks, and what each of them promises."""
