"""The training engine: the step, teachers, terms, schedules, and the run folder."""
