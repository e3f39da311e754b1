"""`spindle gc`: a garbage collection now, on this machine's settings: their database, Redis and artifact store."""

from typing import TYPE_CHECKING, Annotated

import typer

from spindle_control.cli.session import Refusal, Session

if TYPE_CHECKING:
    from spindle_control.garbage import Report
    from spindle_control.settings import ControlSettings


async def gc(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go; delete nothing.")] = False,
) -> None:
    """Delete what nobody needs any more, as SPINDLE_KEEP_… say. A server does so by itself now and then."""
    from spindle_common.artifacts import open_store
    from spindle_common.connection import connect
    from spindle_common.garbage import Garbage
    from spindle_control.garbage import Collector, Policy
    from spindle_control.retention import Retention
    from spindle_control.store import Store

    settings = _settings()
    client = connect(settings.redis)
    artifacts = open_store(settings.data_dir, settings.s3_url)
    store = await Store.open(settings.database)
    try:
        collector = Collector(Garbage(client), Retention(store), artifacts, Policy.of(settings), artifacts)
        report = await (collector.dry_run() if dry_run else collector.collect())
    finally:
        await store.close()
        await artifacts.close()
        await client.aclose()
    if report is None:
        raise Refusal("Another collection goes on.", "Wait a minute, or look at the server's log.")
    _show(session, report)


def _settings() -> "ControlSettings":
    """Return the settings, with the Redis of the server that is up on their data directory unless they name one."""
    from spindle_control.settings import ControlSettings
    from spindle_control.up import running

    settings = ControlSettings()
    if settings.redis_url:
        return settings
    who = running(settings.data_dir.absolute())
    if not who or "redis_url" not in who:
        raise Refusal(
            f"Nothing is up on {settings.data_dir.absolute()}, and only its Redis knows what is in use.",
            "Start it with `spindle up`, or set SPINDLE_REDIS_URL.",
        )
    return ControlSettings.model_validate({"redis_url": str(who["redis_url"])})


def _show(session: Session, report: "Report") -> None:
    from spindle_control.cli.panels import size, table

    if session.json:
        session.print_json(report.to_json())
        return
    kinds = {"runs": report.runs, "artifacts": report.artifacts, "uploads of the dead": report.uploads}
    kinds["cached results"] = report.cached
    rows = [(name, str(tally.count), size(tally.bytes) if name != "runs" else "") for name, tally in kinds.items()]
    rows += [("idempotency keys", str(report.idempotency_keys), ""), ("tickets", str(report.tickets), "")]
    session.out.print(table(("would go" if report.dry_run else "gone", "count", "bytes"), rows))
    for tally in kinds.values():
        for shown in tally.first:
            session.out.print("  ".join(str(value) for value in shown.values()), markup=False, soft_wrap=True)
        if tally.count > len(tally.first):
            session.out.print(f"… and {tally.count - len(tally.first)} more", markup=False)
