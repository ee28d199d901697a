"""Pure functions of tensors: log-probabilities, aggregation, KL, advantages, ratios and losses.

Nothing here knows a model, a tokenizer or a device. Every loss is per item (`[pairs]`, `[batch, length]`);
`aggregate.aggregate` is the only place that reduces. This package imports nothing by itself, so that
`ridgeline.objectives.axes` can be used by configuration code without loading torch.
"""
