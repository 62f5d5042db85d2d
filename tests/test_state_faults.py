"""The state database among other processes, and when it is locked, full, gone or foreign."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from kubewitness.errors import StateError, StateUnavailable
from kubewitness.state import engine, migration
from kubewitness.state.database import State, state_at
from kubewitness.state.schema import metadata
from postgresql import Server
from state_fixtures import LATER, incident, sent, sink

PAGER = sink()
TESTS = Path(__file__).parent


@contextmanager
def connected(place: Path | str) -> Iterator[sa.Connection]:
    """A connection of somebody else's."""
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    stranger = sa.create_engine(url, poolclass=sa.NullPool)
    with stranger.begin() as connection:
        yield connection


def process(code: str, *args: object) -> subprocess.Popen[str]:
    """Another process, with the state at ``sys.argv[1]`` as ``state``."""
    script = f"""
import sys
from pathlib import Path
from kubewitness.state.database import State
from state_fixtures import incident, sink
place = sys.argv[1]
state = State(place if "://" in place else Path(place))
{code}
"""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])},
    )


def ended(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short."""
    monkeypatch.setattr(engine, "PATIENCE", 0.2)


def test_the_revisions_make_the_tables_that_the_program_knows(place: Path | str) -> None:
    State(place).close()
    with connected(place) as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migration.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def with_another(step: str, place: Path | str, folder: Path) -> Path:
    """The revisions, and one more that comes after the one that the state at ``place`` is at."""
    later = folder / "revisions"
    shutil.copytree(migration.REVISIONS, later)
    with connected(place) as connection:
        at = connection.scalar(sa.text(f"SELECT version_num FROM {migration.VERSION_TABLE}"))
    (later / "later.py").write_text(
        f"import sqlalchemy as sa\nrevision = 'later'\ndown_revision = {at!r}\n"
        f"def upgrade(op):{step}"
    )
    return later


def test_an_older_state_is_upgraded_and_keeps_what_it_holds(
    place: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with State(place) as state:
        state.keep("prod", [incident()], [PAGER])
    step = """
    note = sa.Column("note", sa.Text, nullable=False, server_default="none")
    op.add_column("incidents", note)
"""
    with monkeypatch.context() as patch:
        patch.setattr(migration, "REVISIONS", with_another(step, place, tmp_path))
        with pytest.raises(StateError, match="no state of this version"):
            State(place, existing=True)
        with State(place) as state:
            assert state.incidents() == [incident()]
            assert sent(state, now=LATER) == [("opened", "a1", 1)]
        with connected(place) as connection:
            assert connection.scalar(sa.text("SELECT note FROM incidents")) == "none"
    # And the program of before meets what it does not know.
    with pytest.raises(StateError, match="a newer version of kubewitness") as caught:
        State(place)
    assert not isinstance(caught.value, StateUnavailable)
    assert "upgrade kubewitness" in caught.value.remedy


def test_a_step_that_fails_leaves_everything_as_it_was(
    place: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    State(place).close()
    step = """
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("SELECT * FROM nowhere")
"""
    with monkeypatch.context() as patch:
        patch.setattr(migration, "REVISIONS", with_another(step, place, tmp_path))
        with pytest.raises(StateError, match="nowhere"):
            State(place)
    with connected(place) as connection:
        assert not sa.inspect(connection).has_table("notes")
    State(place, existing=True).close()


def test_processes_that_open_a_new_state_at_once_make_it_once(place: Path | str) -> None:
    code = "state.keep('prod', [incident(sys.argv[2])], [sink()])"
    for child in [process(code, place, f"i{n}") for n in range(4)]:
        ended(child)
    with State(place, existing=True) as state:
        assert {one.id for one in state.incidents()} == {f"i{n}" for n in range(4)}


def test_processes_that_keep_the_same_incidents_announce_each_once(place: Path | str) -> None:
    State(place).close()
    code = """
told = [
    (change.incident.id, change.revision)
    for score in (20.0, 40.0, 80.0)
    for change in state.keep("prod", [incident(f"i{n}", score=score) for n in range(20)], [sink()])
]
print(told)
"""
    children = [process(code, place) for _ in range(3)]
    told = [one for child in children for one in eval(ended(child))]
    assert sorted(told) == sorted((f"i{n}", revision) for n in range(20) for revision in (1, 2, 3))


def test_a_kill_in_the_middle_leaves_all_or_nothing(place: Path | str) -> None:
    """Ten incidents a transaction; whatever was announced is in the outbox, and the other way."""
    State(place).close()
    code = """
for batch in range(int(sys.argv[2]), 100_000):
    print(batch, flush=True)
    state.keep("prod", [incident(f"{batch}-{n}") for n in range(10)], [sink()])
"""
    begin = 0
    for delay in (0.0, 0.005, 0.02, 0.05):
        child = process(code, place, begin)
        assert child.stdout is not None
        begin = int(child.stdout.readline()) + 1
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        for line in child.communicate()[0].split():
            begin = int(line) + 1
    with State(place, existing=True) as state:
        kept = {one.id for one in state.incidents()}
        told = {identity for _, identity, _ in sent(state, now=LATER)}
    batches = {identity.partition("-")[0] for identity in kept}
    assert kept == {f"{batch}-{n}" for batch in batches for n in range(10)}
    assert told == kept
    # All but the last of each run were committed.
    assert begin - 5 <= len(batches) <= begin


@pytest.mark.usefixtures("hasty")
def test_a_locked_file_is_unavailable_until_it_is_let_go(tmp_path: Path) -> None:
    place = tmp_path / "state.sqlite"
    with State(place) as state, closing(sqlite3.connect(place, isolation_level=None)) as other:
        state.keep("prod", [incident()], [])
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked") as caught:
            state.set_position("feed", b"1")
        assert str(place) in str(caught.value)
        assert "end it, or wait" in str(caught.value)
        # Who only reads does not wait for who writes.
        assert state.incidents() == [incident()]
        other.execute("COMMIT")
        state.set_position("feed", b"1")
        assert state.position("feed") == b"1"


@pytest.mark.usefixtures("hasty")
def test_a_file_that_is_locked_when_it_is_opened_is_unavailable(tmp_path: Path) -> None:
    place = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateUnavailable):
            State(place)
        other.execute("COMMIT")
    State(place).close()


def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "state.sqlite"
    with State(place) as state:
        child = process(
            "with state._writing():\n    print('locked', flush=True)\n    sys.stdin.read(0)\n"
            "    import time; time.sleep(0.5)",
            place,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        state.set_position("feed", b"1")
        ended(child)


def test_a_file_that_is_gone_is_unavailable_and_not_made_anew(tmp_path: Path) -> None:
    place, aside = tmp_path / "state.sqlite", tmp_path / "aside"
    with State(place) as state:
        state.keep("prod", [incident()], [])
        place.rename(aside)
        for _ in range(2):
            with pytest.raises(StateUnavailable, match="unable to open"):
                state.keep("prod", [incident("b")], [])
            assert not place.exists()
        aside.rename(place)
        state.keep("prod", [incident("b")], [])
        assert {one.id for one in state.incidents()} == {"a1", "b"}


def test_a_full_disk_is_unavailable_and_nothing_is_half_kept(tmp_path: Path) -> None:
    """The limit is on files of a process of its own."""
    place = tmp_path / "state.sqlite"
    code = """
import resource, signal
from kubewitness.errors import StateUnavailable
state.keep("prod", [incident()], [sink()])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, unlimited[1]))
try:
    state.keep("prod", [incident(f"i{n}") for n in range(100)], [sink()])
except StateUnavailable as error:
    assert "free some disk space" in error.remedy, error
else:
    raise AssertionError("it had room")
assert state.incidents() == [incident()]
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
assert len(state.keep("prod", [incident(f"i{n}") for n in range(100)], [sink()])) == 100
"""
    ended(process(code, place))
    with State(place, existing=True) as state:
        assert len(state.incidents()) == 101


def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with state_at(tmp_path / "data") as state:
        state.set_position("feed", b"1")
        for path in (tmp_path / "data").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_no_database_is_told_as_such(tmp_path: Path) -> None:
    place = tmp_path / "state.sqlite"
    place.write_text("To be or not to be, that is the question. " * 100)
    with pytest.raises(StateError, match="not a database") as caught:
        State(place)
    assert not isinstance(caught.value, StateUnavailable)
    assert "backup" in caught.value.remedy
    assert place.read_text().startswith("To be")


def test_a_damaged_file_is_told_as_such(tmp_path: Path) -> None:
    place = tmp_path / "state.sqlite"
    with State(place) as state:
        state.keep("prod", [incident(f"i{n}") for n in range(50)], [])
        damaged = bytearray(place.read_bytes())
        damaged[4096:] = b"\x5a" * (len(damaged) - 4096)
        place.write_bytes(damaged)
        with pytest.raises(StateError, match="malformed") as caught:
            state.incidents()
    assert not isinstance(caught.value, StateUnavailable)


def test_a_state_is_not_made_by_who_only_reads(place: Path | str) -> None:
    with pytest.raises(StateError):
        State(place, existing=True)
    if isinstance(place, Path):
        assert not place.exists()
    else:
        with connected(place) as connection:
            assert sa.inspect(connection).get_table_names() == []


def test_an_incident_of_another_version_hides_no_others(
    place: Path | str, caplog: pytest.LogCaptureFixture
) -> None:
    with State(place) as state:
        state.keep("prod", [incident("a"), incident("b")], [PAGER])
        with connected(place) as connection:
            connection.execute(
                sa.text("""UPDATE incidents SET body = '{"id": 7}' WHERE id = 'a'""")
            )
        assert [one.id for one in state.incidents()] == ["b"]
        assert "incident a of prod" in caplog.text
        assert sent(state, now=LATER) == [("opened", "b", 1)]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_was_restarted_between_two_calls_is_not_noticed(
    database: str, postgresql: Server, how: str
) -> None:
    with State(database) as state:
        state.keep("prod", [incident()], [PAGER])
        getattr(postgresql, how)()
        try:
            with pytest.raises(StateUnavailable, match="connection") as caught:
                state.keep("prod", [incident("b")], [PAGER])
            assert "whether the server runs" in str(caught.value)
        finally:
            postgresql.start()
        assert len(state.keep("prod", [incident("b")], [PAGER])) == 1
        postgresql.stop()
        postgresql.start()
        assert len(state.incidents()) == 2


def test_a_server_whose_transactions_see_no_news_by_default_is_used_all_the_same(
    database: str, postgresql: Server
) -> None:
    name = database.partition("@/")[2].partition("?")[0]
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    State(database).close()
    code = "for n in range(300): state.set_position('feed', sys.argv[2].encode())"
    for child in [process(code, database, n) for n in range(3)]:
        ended(child)


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_holds_a_server_is_waited_for_only_so_long(database: str) -> None:
    with State(database) as state, State(database) as other:
        with other._writing(), pytest.raises(StateUnavailable, match="lock timeout"):
            state.set_position("feed", b"1")
        state.set_position("feed", b"1")


def test_a_connection_that_an_operator_ends_is_unavailable(
    database: str, postgresql: Server
) -> None:
    with State(database) as state:

        def interrupted() -> None:
            with state._writing() as connection:
                postgresql.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                connection.execute(sa.text("SELECT 1"))

        with pytest.raises(StateUnavailable):
            interrupted()
        state.set_position("feed", b"1")


def test_no_password_is_ever_told() -> None:
    for url in (
        "postgresql+psycopg://witness:s3cret@127.0.0.1:1/db?sslpassword=s3cret&connect_timeout=1",
        "postgres://witness:s3cret@127.0.0.1:1/db",
        "postgresql://:s3cret@127.0.0.1:1/db?password=s3cret",
        "mysql://witness:s3cret@127.0.0.1/db",
        "postgresql://witness:s3cret@host:port:s3cret/db",
        "s3cret",
    ):
        with pytest.raises(StateError) as caught:
            State(url)
        assert "s3cret" not in str(caught.value)
        assert caught.value.remedy
    with pytest.raises(StateUnavailable) as told:
        State("postgres://witness:s3cret@127.0.0.1:1/db")
    assert told.value.where == "postgresql+psycopg://witness:***@127.0.0.1:1/db"


def test_an_error_does_not_repeat_what_was_to_be_written(place: Path | str) -> None:
    refusal = "RAISE(ABORT, 'refused')"
    with State(place) as state:
        with connected(place) as connection:
            if isinstance(place, Path):
                trigger = f"CREATE TRIGGER t BEFORE INSERT ON incidents BEGIN SELECT {refusal}; END"
                connection.execute(sa.text(trigger))
            else:
                connection.execute(sa.text("ALTER TABLE incidents ADD CHECK (cluster = '')"))
        with pytest.raises(StateError) as caught:
            state.keep("s3cret", [incident()], [])
        assert not isinstance(caught.value, StateUnavailable)
        assert "s3cret" not in str(caught.value)
        if isinstance(place, Path):  # PostgreSQL itself quotes the row, for whoever debugs
            assert "s3cret" not in str(caught.value.__cause__)
        assert state.incidents() == []


def test_a_driver_that_is_missing_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "psycopg", missing)
    with pytest.raises(StateError, match="driver") as caught:
        State("postgresql://localhost/db")
    assert "pip install" in caught.value.remedy
