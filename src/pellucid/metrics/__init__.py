"""Pure functions of predictions. No number without its n."""
