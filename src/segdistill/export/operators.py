"""Says which operator of which module a format cannot take: what the exporters raise names neither plainly."""

import re
import traceback

from torch import nn
from torch.export import ExportedProgram

from segdistill.errors import UserError

CURE = "export another format or student, or put another module in its place"


def untraceable(network: nn.Module, error: Exception, *, any_size: bool) -> UserError:
    """What to tell where torch.export cannot follow the network, e.g. a branch that depends on the image.

    The frames of the exception know the module whose forward was running.

    Args:
        network: what was to be traced.
        error: what that has raised.
        any_size: whether it was to take images of any size.
    """
    modules = {id(module): name for name, module in network.named_modules()}
    found: tuple[str, str] | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and modules.get(id(owner)):
            source = traceback.extract_stack(frame, limit=1)[0].filename.rsplit("/", 1)[-1]
            found = f"module {_path(modules[id(owner)])} ({type(owner).__name__})", f"{source}:{line}"
    where = f"{found[0]}, {found[1]}" if found else type(network).__name__
    cure = f"a fixed size (size=[H,W]) may do; else {CURE}" if any_size else CURE
    return UserError(f"torch.export cannot follow {where}: {_first(error)}; {cure}")


def untakable(what: str, program: ExportedProgram, error: Exception) -> UserError | None:
    """What to tell where a format has no counterpart of an operator; None if the exception is about something else.

    Args:
        what: the format.
        program: what was to be converted.
        error: what the converter has raised; the operators stand in its text and its causes'.
    """
    said, cause = "", error
    while cause is not None:
        said, cause = f"{said}\n{cause}", cause.__cause__  # type: ignore[assignment]
    named = set(re.findall(r"aten(?:\.|::)(\w+)", said))
    for graph in (program.graph, program.run_decompositions().graph):
        for node in graph.nodes:
            operator = re.match(r"aten\.(\w+)", str(node.target)) if node.op == "call_function" else None
            if operator and operator[1] in named:
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                path, kind = stack[-1] if stack else ("", "the network")
                kind = kind if isinstance(kind, str) else kind.__name__
                where = f"module {_path(path)} ({kind.rsplit('.', 1)[-1]})"
                return UserError(f"{what} has no operator for aten.{operator[1]}, which {where} uses; {CURE}")
    return None


def _path(path: str) -> str:
    """The name of a module inside the user's network: without what it is wrapped in."""
    plain = re.sub(r"^(L__self__|L\['self'\])\.?", "", path)
    return re.sub(r"^model\.network\.?", "", plain) or plain


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
