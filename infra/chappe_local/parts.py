"""The parts of a local instance: what each runs, in which environment, after what, and what shows that it is ready."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chappe_local import postgres, probes, valkey
from chappe_local.credentials import Secrets
from chappe_local.instance import Instance
from chappe_local.manifest import Cell
from chappe_local.processes import MARKER_VARIABLE, PART_VARIABLE
from chappe_local.replacements import Replacements
from chappe_serving.ray_head import RayHead, haproxy_config, head_command, head_environment

Probe = Callable[[], Awaitable[bool]]

DATABASE_READY = "database"
"""The step after which the database has its schema, the catalogue and the demo tenant."""

BACKUP_VARIABLE = "CHAPPE_BACKUP_DIR"
"""With it, an instance streams its database's log into that folder."""
VIES_VARIABLE = "CHAPPE_VIES_URL"
"""With it, VAT numbers are checked there; else with a stand-in of our own."""

STRIPE_WEBHOOK_PATH = "/webhooks/stripe"
"""Where the control plane hears of payments."""

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE")
_CONTROL_OPTIONS = (
    "CHAPPE_WELCOME_CREDIT_NANO",
    "CHAPPE_GRANT_ADMIT_S",
    "CHAPPE_GRANT_SETTLE_S",
    "CHAPPE_GRANT_RELEASE_S",
    "CHAPPE_GRANT_POSTPAID_ADMIT_S",
    "CHAPPE_SNAPSHOT_MAX_AGE_S",
    "CHAPPE_AUDIT_CHECKPOINT_S",
    "CHAPPE_WEBHOOKS_TO_LOOPBACK",
)
_GATEWAY_OPTIONS = ("CHAPPE_MAX_BODY_BYTES", "CHAPPE_GRANT_BLOCK_NANO", "CHAPPE_MATCH_AFTER_S")
_MAIL_FROM = "Chappe <no-reply@localhost>"
_GATEWAY_DRAIN_S = 10
"""How long running streams may go on when somebody at this machine says stop."""
# Ray writes its own logs beside the part's. They are bounded as well.
_RAY_LOG_LIMITS = {"RAY_ROTATION_MAX_BYTES": str(4 * 1024 * 1024), "RAY_ROTATION_BACKUP_COUNT": "1"}
# Ray would try to move its replicas to another node for half a minute. There is none, and the gateways, which go first,
# have let their streams end.
_NO_DRAIN = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}


@dataclass(frozen=True)
class Part:
    """One supervised process with everything that it starts."""

    name: str
    command: Callable[[], list[str]]
    environment: Mapping[str, str]
    ready: Probe
    after: tuple[str, ...] = ()
    """Parts or steps that must be ready before this one is started for the first time."""
    prepare: Callable[[], None] = lambda: None
    """Blocking work before each start, such as making folders."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    ready_within_s: float = 60.0
    stop_wave: int = 0
    """`down` ends the parts of the lowest wave first."""
    extra_logs: Callable[[], list[Path]] = field(default=list)
    """Logs that the part keeps itself, shown when it fails."""


@dataclass(frozen=True)
class Setting:
    """All that the parts are made from."""

    instance: Instance
    secrets: Secrets
    replacements: Replacements
    environ: Mapping[str, str]

    @property
    def postgres_socket_dir(self) -> Path:
        return self.instance.runtime_dir / "pg"

    def control_environment(self) -> dict[str, str]:
        """What the control plane knows of the database: never its owner's password."""
        url = postgres.database_url(self.postgres_socket_dir, postgres.LOGIN, self.secrets.postgres.control)
        return {
            "CHAPPE_DATABASE_URL": self.replacements.database_url or url,
            "CHAPPE_KEY_PEPPERS": self.secrets.key_peppers,
            **self._options(_CONTROL_OPTIONS),
        }

    def signing_environment(self) -> dict[str, str]:
        """Of who signs the audit log: nobody whom browsers reach."""
        return {"CHAPPE_AUDIT_KEYS": self.secrets.audit_keys}

    def outside_environment(self) -> dict[str, str]:
        """Where the control plane and its worker send mail, take money, and say that pages are."""
        instance = self.instance
        return {
            "CHAPPE_PORTAL_URL": instance.portal_url,
            "CHAPPE_SMTP_URL": self.replacements.smtp_url or f"smtp://127.0.0.1:{instance.smtp_port}",
            "CHAPPE_MAIL_FROM": self.replacements.mail_from or _MAIL_FROM,
            **self.stripe_environment(),
        }

    def operator_environment(self) -> dict[str, str]:
        """Of `chappe db`, `catalogue`, `tenant`, `ledger`, `audit` and `backup`."""
        owner_url = postgres.database_url(self.postgres_socket_dir, postgres.OWNER, self.secrets.postgres.owner)
        return {
            **self.control_environment(),
            **self.signing_environment(),
            "CHAPPE_DATABASE_OWNER_URL": self.replacements.database_owner_url or owner_url,
            **self.backup_environment(),
        }

    def stripe_environment(self) -> dict[str, str]:
        """The payment service of the control plane: the caller's own Stripe, or the stand-in."""
        own = self.replacements
        if own.stripe_api_key:
            webhook = {"CHAPPE_STRIPE_WEBHOOK_SECRET": own.stripe_webhook_secret} if own.stripe_webhook_secret else {}
            return {"CHAPPE_STRIPE_API_KEY": own.stripe_api_key, **webhook}
        return {
            "CHAPPE_STRIPE_API_KEY": self.secrets.stripe.api_key,
            "CHAPPE_STRIPE_API_BASE": self.instance.stripe_api_url,
            "CHAPPE_STRIPE_WEBHOOK_SECRET": self.secrets.stripe.webhook,
        }

    @property
    def backup_dir(self) -> Path:
        """Where backups go; CHAPPE_BACKUP_DIR names another folder, on another disk."""
        named = self.environ.get(BACKUP_VARIABLE)
        return Path(named).absolute() if named else self.instance.state_dir / "backups"

    def backup_environment(self) -> dict[str, str]:
        """Of `chappe backup`."""
        own = postgres.database_url(
            self.postgres_socket_dir, postgres.REPLICATION, self.secrets.postgres.backup, "postgres"
        )
        if self.replacements.database_url:
            own = self.replacements.database_backup_url or ""
        return {BACKUP_VARIABLE: str(self.backup_dir), "CHAPPE_DATABASE_BACKUP_URL": own}

    def redis_socket(self, name: str) -> Path:
        return self.instance.runtime_dir / f"{name}.sock"

    def gateway_redis_url(self, cell: Cell) -> str:
        socket = self.redis_socket(cell.part("redis"))
        own = valkey.redis_url(socket, valkey.GATEWAY_USER, self.secrets.cells[cell.name].gateway_redis)
        return self.replacements.cell_redis_urls.get(cell.name, own)

    def engine_redis_url(self, cell: Cell) -> str:
        socket = self.redis_socket(cell.part("redis"))
        own = valkey.redis_url(socket, valkey.ENGINE_USER, self.secrets.cells[cell.name].engine_redis)
        return self.replacements.cell_redis_urls.get(cell.name, own)

    def ray_head(self, cell: Cell) -> RayHead:
        return RayHead(
            region=cell.name,
            port_base=self.instance.ray_port_base(cell),
            temp_dir=self.instance.ray_dir / str(cell.index),
            token_path=self.instance.runtime_dir / f"{cell.name}.token",
            engine_redis_url=self.engine_redis_url(cell),
        )

    def base_environment(self, part: str) -> dict[str, str]:
        """What every process gets: who it belongs to, and of the caller's environment only what it needs to run."""
        kept = {name: self.environ[name] for name in _INHERITED if name in self.environ}
        return {
            **kept,
            MARKER_VARIABLE: self.instance.marker,
            PART_VARIABLE: part,
            "PYTHONUNBUFFERED": "1",
            # Ray's processes leave temporary folders behind: these go with the instance.
            "TMPDIR": str(self.instance.temp_dir),
        }

    def gateway_options(self) -> dict[str, str]:
        return self._options(_GATEWAY_OPTIONS)

    def _options(self, names: tuple[str, ...]) -> dict[str, str]:
        return {name: self.environ[name] for name in names if name in self.environ}


def chappe_command(*arguments: str) -> list[str]:
    """The installed command, by this interpreter, whatever PATH says."""
    return [sys.executable, "-c", "from chappe_kernel.cli import main; main()", *arguments]


def all_parts(setting: Setting) -> list[Part]:
    """Every part that this instance runs; what a URL replaces is left out."""
    parts = [] if setting.replacements.database_url else [_postgres(setting)]
    if setting.environ.get(BACKUP_VARIABLE) and setting.backup_environment()["CHAPPE_DATABASE_BACKUP_URL"]:
        parts.append(_log_stream(setting))
    if not setting.replacements.redis_url:
        passwords = {valkey.CONTROL_USER: setting.secrets.control_redis}
        parts.append(_redis(setting, "redis", passwords, valkey.CONTROL_USER))
    if not setting.replacements.smtp_url:
        parts.append(_mail(setting))
    if VIES_VARIABLE not in setting.environ:
        parts.append(_vies(setting))
    if not setting.replacements.stripe_api_key:
        parts.append(_stripe(setting))
    parts += [_control(setting), _worker(setting)]
    for cell in setting.instance.cells:
        parts.extend(_cell_parts(setting, cell))
    return parts


def _cell_parts(setting: Setting, cell: Cell) -> list[Part]:
    own = setting.secrets.cells[cell.name]
    parts = []
    if cell.name not in setting.replacements.cell_redis_urls:
        passwords = {valkey.GATEWAY_USER: own.gateway_redis, valkey.ENGINE_USER: own.engine_redis}
        parts.append(_redis(setting, cell.part("redis"), passwords, valkey.GATEWAY_USER))
    return [*parts, _serving(setting, cell), _reconciler(setting, cell), _gateway(setting, cell)]


def _postgres(setting: Setting) -> Part:
    data_dir = setting.instance.state_dir / "postgres"
    socket_dir = setting.postgres_socket_dir
    passwords = setting.secrets.postgres

    async def ready() -> bool:
        return await probes.database_answers(socket_dir, passwords.superuser)

    return Part(
        name="postgres",
        prepare=lambda: postgres.prepare_data(data_dir, socket_dir, passwords.superuser),
        command=lambda: postgres.server_command(data_dir, socket_dir),
        environment=setting.base_environment("postgres"),
        ready=ready,
        stop_signal=signal.SIGINT,
        stop_wave=3,
    )


def _log_stream(setting: Setting) -> Part:
    """Continuous backup: every record of the database's log, as soon as the database has written it."""
    environment = setting.backup_environment()

    return Part(
        name="backup",
        command=lambda: chappe_command("backup", "stream"),
        environment={**setting.base_environment("backup"), **environment},
        after=(DATABASE_READY,),
        ready=lambda: probes.log_streams(environment["CHAPPE_DATABASE_BACKUP_URL"]),
        stop_signal=signal.SIGINT,
        stop_wave=3,
    )


def _redis(setting: Setting, name: str, passwords: dict[str, str], user: str) -> Part:
    data_dir = setting.instance.state_dir / name
    socket = setting.redis_socket(name)
    url = valkey.redis_url(socket, user, passwords[user])
    return Part(
        name=name,
        prepare=lambda: valkey.prepare_data(data_dir, passwords),
        command=lambda: valkey.server_command(data_dir, socket),
        environment=setting.base_environment(name),
        ready=lambda: probes.redis_answers(url),
        stop_wave=3,
    )


def _mail(setting: Setting) -> Part:
    """Takes what the instance sends, and shows it: nobody outside gets mail from somebody's laptop."""
    instance = setting.instance
    folder = instance.state_dir / "mail"
    return Part(
        name="mail",
        prepare=lambda: folder.mkdir(mode=0o700, exist_ok=True),
        command=lambda: [
            *(sys.executable, "-m", "chappe_local.mail_catcher"),
            *(str(folder), str(instance.smtp_port), str(instance.mail_port)),
        ],
        environment=setting.base_environment("mail"),
        ready=lambda: probes.http_answers(f"http://127.0.0.1:{instance.mail_port}/api/letters"),
        stop_wave=3,
    )


def _vies(setting: Setting) -> Part:
    """Stands for the Commission's register of VAT numbers, which a laptop has nothing to ask."""
    instance = setting.instance
    return Part(
        name="vies",
        command=lambda: [sys.executable, "-m", "chappe_local.vies_stand_in", str(instance.vies_port)],
        environment=setting.base_environment("vies"),
        ready=lambda: probes.http_answers(f"{instance.vies_url}/check-status"),
        stop_wave=3,
    )


def _stripe(setting: Setting) -> Part:
    """The payment service of an instance that has none: it takes no money, and asks nobody outside."""
    instance, secrets = setting.instance, setting.secrets.stripe
    webhooks = [{"url": f"{instance.control_url}{STRIPE_WEBHOOK_PATH}", "secret": secrets.webhook}]
    folder = instance.state_dir / "stripe"
    return Part(
        name="stripe",
        prepare=lambda: folder.mkdir(mode=0o700, exist_ok=True),
        command=lambda: [
            *(sys.executable, "-m", "chappe_local.stripe_stand_in"),
            *(str(folder / "stripe.sqlite"), str(instance.stripe_port)),
        ],
        environment={
            **setting.base_environment("stripe"),
            "STAND_IN_API_KEY": secrets.api_key,
            "STAND_IN_SWITCH_TOKEN": secrets.switches,
            "STAND_IN_WEBHOOKS": json.dumps(webhooks),
        },
        ready=lambda: probes.http_answers(f"{instance.stripe_api_url}/healthz"),
        stop_wave=3,
    )


def _control(setting: Setting) -> Part:
    instance = setting.instance
    socket = setting.redis_socket("redis")
    own_redis = valkey.redis_url(socket, valkey.CONTROL_USER, setting.secrets.control_redis)
    return Part(
        name="control",
        command=lambda: chappe_command("control"),
        environment={
            **setting.base_environment("control"),
            **setting.control_environment(),
            "CHAPPE_REDIS_URL": setting.replacements.redis_url or own_redis,
            "CHAPPE_HOST": "127.0.0.1",
            "CHAPPE_PORT": str(instance.control_port),
            "CHAPPE_WORKS": "false",
            **setting.outside_environment(),
        },
        after=(DATABASE_READY, *(() if setting.replacements.redis_url else ("redis",))),
        ready=lambda: probes.http_answers(f"{instance.control_url}/healthz"),
        stop_wave=2,
    )


def _worker(setting: Setting) -> Part:
    """The control plane's work, in a process of its own that no page waits for."""
    instance = setting.instance
    heartbeat = instance.runtime_dir / "worker.heartbeat"

    async def ready() -> bool:
        return await asyncio.to_thread(probes.touched_lately, heartbeat)

    return Part(
        name="worker",
        # A heartbeat of the process before is none of this one's.
        prepare=lambda: heartbeat.unlink(missing_ok=True),
        command=lambda: chappe_command("worker"),
        environment={
            **setting.base_environment("worker"),
            **setting.control_environment(),
            **setting.signing_environment(),
            **setting.outside_environment(),
            "CHAPPE_HEARTBEAT_FILE": str(heartbeat),
            "CHAPPE_FEED_FOLDER": str(instance.state_dir / "rated-usage"),
            VIES_VARIABLE: setting.environ.get(VIES_VARIABLE, instance.vies_url),
        },
        after=(DATABASE_READY,),
        ready=ready,
        # It goes behind all that starts beside it.
        ready_within_s=120.0,
        stop_wave=2,
    )


def _serving(setting: Setting, cell: Cell) -> Part:
    cluster = setting.ray_head(cell)
    name = cell.part("serving")
    serving_url = setting.instance.serving_url(cell)

    def prepare() -> None:
        # The session of a cluster that died is of no use to its successor.
        shutil.rmtree(cluster.temp_dir, ignore_errors=True)
        for folder in (cluster.temp_dir, haproxy_config(cluster).parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(cluster.token_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(setting.secrets.cells[cell.name].ray_token)

    async def ready() -> bool:
        answers = await asyncio.gather(
            *(probes.http_answers(f"{serving_url}/{deployment}/health") for deployment in cell.deployments)
        )
        return all(answers)

    return Part(
        name=name,
        prepare=prepare,
        command=lambda: head_command(cluster),
        environment={
            **head_environment(cluster, setting.environ),
            **setting.base_environment(name),
            **_RAY_LOG_LIMITS,
            **_NO_DRAIN,
            # What engines witness while Redis is away must outlive this start.
            "CHAPPE_ENGINE_RECORDS_DIR": str(setting.instance.state_dir / "engine-records" / cell.name),
        },
        ready=ready,
        ready_within_s=180.0,
        stop_wave=1,
        extra_logs=lambda: sorted((cluster.temp_dir / "session_latest" / "logs" / "serve").glob("*.log")),
    )


def _reconciler(setting: Setting, cell: Cell) -> Part:
    cluster = setting.ray_head(cell)
    name = cell.part("reconciler")

    async def ready() -> bool:
        # It answers nobody. That it lives is seen by the supervisor, and that it works by what serving answers.
        return True

    return Part(
        name=name,
        command=lambda: chappe_command("reconcile"),
        environment={
            **setting.base_environment(name),
            "CHAPPE_REGION": cell.name,
            "CHAPPE_CONTROL_URL": setting.instance.control_url,
            "CHAPPE_REGION_CREDENTIAL": setting.secrets.cells[cell.name].credential,
            "CHAPPE_RAY_DASHBOARD_URL": cluster.dashboard_url,
            "RAY_AUTH_TOKEN_PATH": str(cluster.token_path),
            "CHAPPE_SERVING_HOST": "127.0.0.1",
            "CHAPPE_SERVING_PORT": str(setting.instance.serving_port(cell)),
        },
        after=("control",),
        ready=ready,
    )


def _gateway(setting: Setting, cell: Cell) -> Part:
    instance = setting.instance
    name = cell.part("gateway")
    gateway_id = f"{name}-0"
    spool_dir = instance.state_dir / "spool" / gateway_id
    redis = cell.part("redis")
    return Part(
        name=name,
        prepare=lambda: spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True),
        command=lambda: chappe_command("gateway"),
        environment={
            **setting.base_environment(name),
            **setting.gateway_options(),
            "CHAPPE_REGION": cell.name,
            "CHAPPE_GATEWAY_ID": gateway_id,
            "CHAPPE_HOST": "127.0.0.1",
            "CHAPPE_PORT": str(instance.gateway_port(cell)),
            "CHAPPE_METRICS_PORT": str(instance.metrics_port(cell)),
            "CHAPPE_CONTROL_URL": instance.control_url,
            "CHAPPE_REGION_CREDENTIAL": setting.secrets.cells[cell.name].credential,
            "CHAPPE_SERVING_URL": instance.serving_url(cell),
            "CHAPPE_REDIS_URL": setting.gateway_redis_url(cell),
            "CHAPPE_SPOOL_DIR": str(spool_dir),
            "CHAPPE_CONTENT_DIR": str(instance.state_dir / "content" / cell.name),
            "CHAPPE_DRAIN_S": str(_GATEWAY_DRAIN_S),
        },
        after=("control", *(() if cell.name in setting.replacements.cell_redis_urls else (redis,))),
        ready=lambda: probes.http_answers(f"{instance.gateway_url(cell)}/healthz"),
        stop_grace_s=_GATEWAY_DRAIN_S + 5.0,
    )
