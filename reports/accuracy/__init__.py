"""How right the profile is, against what the zoo's programs measure themselves."""
