"""create(): a pipeline of three stages, or two, as os-m3-engine makes them."""

import inspect
from collections.abc import Mapping
from typing import Any

from m3.engine.engine import Engine
from m3.engine.plan import Plan, StageSpec
from m3.engine.shape import METHODS, is_stage_class
from m3.errors import ConfigError
from m3.pipeline import ENGINE_OPTIONS, make_spec
from m3.registry import Kind, resolve

__all__ = ("create",)

DEFAULT_THREADS = {"frontend": 1, "transport": 3, "backend": 1}
LEAST_QUEUE_SIZE = 100
# What os-m3-engine let a configuration replace and m3 has no place for.
REPLACED_PARTS = ("thread_cls", "driver_cls", "component_factory_cls")

# What configuration objects may have as attributes, under the names of Plan and StageSpec.
PLAN_OPTIONS = ("stop_timeout", "state", "dead_letters", "checkpoint_interval", "max_failures")
STAGE_OPTIONS = tuple(
    name for name in ENGINE_OPTIONS if name not in ("config", "context", "workers")
)


def create(
    frontend_cls: Any = "m3.ootb.StdinFrontend",
    transport_cls: Any = "m3.ootb.LogTransport",
    backend_cls: Any = "m3.ootb.LogBackend",
    app_config: Any = None,
    engine_config: Any = None,
    engine_frontend_config: Any = None,
    engine_transport_config: Any = None,
    engine_backend_config: Any = None,
    runtime_context: Any = None,
    resources: Mapping[type | str, Any] | None = None,
) -> Engine:
    """
    Return an engine for a frontend, a transport and a backend.

    Args:
        frontend_cls: a class, or a dotted path to one; so the next two, of
            which one may be None.
        transport_cls: between the two others.
        backend_cls: at the end.
        app_config: becomes ``self.config`` of every stage.
        engine_config: any object; those of its attributes that are called
            ``stop_timeout``, ``state``, ``dead_letters``, ``checkpoint_interval``
            and ``max_failures`` are options of the engine, as of :class:`Pipeline`.
        engine_frontend_config: any object; ``thread_num`` is the number of
            threads of the stage; ``queue_size``, ``queue_bytes``, ``sizeof``,
            ``ordering``, ``on_error``, ``max_failures``, ``timeout``, ``batch``
            and ``concurrency`` are those of :class:`~m3.engine.StageSpec`.  So the
            next two.
        engine_transport_config: of the transport; 3 threads by default.
        engine_backend_config: of the backend.
        runtime_context: becomes ``self._runtime_context`` of every stage.
        resources: what the stages ask for by annotation, as of :class:`Pipeline`.

    Raises:
        ConfigError: a class, a path or an option is wrong, or stages are
            missing (it is a :exc:`ValueError` too).
    """
    if frontend_cls is None or (transport_cls is None and backend_cls is None):
        raise ConfigError(
            "create() needs a frontend, and a transport or a backend; "
            "only one of transport_cls and backend_cls may be None"
        )
    context = {"_engine_config": engine_config, "_runtime_context": runtime_context}
    stages: dict[Kind, tuple[StageSpec, ...]] = {}
    described: tuple[tuple[Kind, Any, Any], ...] = (
        ("frontend", frontend_cls, engine_frontend_config),
        ("transport", transport_cls, engine_transport_config),
        ("backend", backend_cls, engine_backend_config),
    )
    for kind, target, config in described:
        stages[kind] = ()
        if target is not None:
            _check(kind, target)
            options = {"config": app_config, "context": context, **_options(kind, config)}
            taken = {spec.name for specs in stages.values() for spec in specs}
            stages[kind] = (make_spec(kind, target, name=None, taken=taken, options=options),)
    plan = Plan(
        frontends=stages["frontend"],
        transports=stages["transport"],
        backends=stages["backend"],
        resources=dict(resources or {}),
        **_given(engine_config, PLAN_OPTIONS),
    )
    return Engine(plan)


def _check(kind: Kind, target: Any) -> None:
    """Refuse a class that is no stage; a pipeline would take it for a mere callable."""
    loaded = resolve(kind, target) if isinstance(target, str) else target
    if inspect.isclass(loaded) and not is_stage_class(loaded, kind):
        raise ConfigError(
            f"{kind}_cls is {loaded.__qualname__}, which is no {kind}: it has no {METHODS[kind]}()"
        )


def _options(kind: Kind, config: Any) -> dict[str, Any]:
    """Return the options that a stage's configuration object stands for."""
    refused = [name for name in REPLACED_PARTS if getattr(config, name, None) is not None]
    if refused:
        raise ConfigError(
            f"engine_{kind}_config.{refused[0]}: m3 has no such part to replace; it starts its "
            "own threads and calls the stage directly"
        )
    threads = getattr(config, "thread_num", DEFAULT_THREADS[kind])
    defaults = {"workers": threads, "queue_size": max(LEAST_QUEUE_SIZE, 2 * threads)}
    return defaults | _given(config, STAGE_OPTIONS)


def _given(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the options called *names* that *config* has."""
    return {name: getattr(config, name) for name in names if hasattr(config, name)}
