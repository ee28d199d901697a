"""Whether a chat template only copies what people wrote.

Most templates write the content of a message between headers and do nothing else with it. What they render
then follows from the roles alone, up to the contents themselves, so it has to be rendered once per sequence
of roles. This is decided by reading the template, never by trying it: whatever is not known to be harmless
counts as not plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from jinja2 import Environment, TemplateError, nodes

MESSAGES = "messages"
CONTENT = "content"
KEYS = {"role", CONTENT}
LOOP = {"first", "last", "index", "index0", "revindex", "revindex0", "length"}
"""What a loop tells about itself without showing a message."""
CAPTURES = (
    nodes.AssignBlock,
    nodes.FilterBlock,
    nodes.Macro,
    nodes.CallBlock,
    nodes.Block,
    nodes.Extends,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.EvalContextModifier,
    nodes.ContextReference,
)
"""Nodes that read or change what has been written, or bring text from elsewhere."""

Path = tuple[nodes.Node, ...]


@lru_cache(maxsize=32)
def is_plain(template: str) -> bool:
    """Whether contents of messages reach the output of this Jinja template as they are and decide nothing."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except TemplateError:
        return False
    if any(isinstance(node, CAPTURES) for node in tree.find_all(nodes.Node)):
        return False
    loops = [loop for loop in tree.find_all(nodes.For) if _is_messages(loop.iter)]
    each = {loop.target.name for loop in loops if isinstance(loop.target, nodes.Name)}
    return len(each) > 0 and all(_is_harmless(path, each) for path in _paths((tree,)))


def _paths(path: Path) -> Iterator[Path]:
    """Every node behind its ancestors."""
    yield path
    for child in path[-1].iter_child_nodes():
        yield from _paths((*path, child))


def _is_harmless(path: Path, each: set[str]) -> bool:
    node = path[-1]
    parent = path[-2] if len(path) > 1 else node
    if isinstance(node, nodes.Name) and node.name == "loop":
        return isinstance(parent, nodes.Getattr) and parent.attr in LOOP
    if _is_messages(node):
        return (isinstance(parent, nodes.For) and parent.iter is node) or _key(parent, int) is not None
    if isinstance(node, nodes.Name) and node.name in each:
        return (isinstance(parent, nodes.For) and parent.target is node) or _key(parent, str) in KEYS
    if isinstance(node, nodes.Getitem) and _is_messages(node.node):
        return _key(parent, str) in KEYS
    if _key(node, str) == CONTENT:
        return _is_written(path)
    return True


def _is_messages(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == MESSAGES


def _key(node: nodes.Node, kind: type) -> object:
    """The constant that ``node`` looks up, None where it looks up something else or nothing."""
    if isinstance(node, nodes.Getattr):
        return node.attr if kind is str else None
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return node.arg.value if type(node.arg.value) is kind else None
    return None


def _is_written(path: Path) -> bool:
    """Whether the last node is written, alone or joined to other texts."""
    return isinstance(
        next(node for node in path[-2::-1] if not isinstance(node, nodes.Add | nodes.Concat)), nodes.Output
    )
