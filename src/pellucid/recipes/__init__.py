"""Named recipes: functions that return a value, each with what it promises."""
