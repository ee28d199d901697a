"""The one loop of all learning stages: engine verbs, optimiser, checkpoints, metrics, tripwires."""
