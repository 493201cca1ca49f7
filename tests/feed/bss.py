"""A small BSS that takes the feed: it believes nothing that it has not added up itself.

It shares no code with the feed, as the operator's own would not.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Sums = Counter[tuple[str, str]]
"""By tenant and currency, in nanos."""


class Refused(Exception):
    """The BSS raises the alarm, and takes nothing more until somebody has looked."""


class Missing(Refused):
    """A batch that there must be is not there."""


class Altered(Refused):
    """A batch is not what the feed made."""


class Repeated(Refused):
    """Something that was taken before comes again."""


@dataclass(frozen=True)
class Taken:
    """A batch that was checked and booked."""

    epoch: str
    sequence: int
    chain: str
    running: dict[str, tuple[int, int]]
    ids: tuple[str, ...]
    sums: Sums
    records: tuple[dict[str, Any], ...]
    """None of them, if the BSS keeps none."""


@dataclass
class FakeBss:
    """Takes batch after batch; `sums` is what every tenant owes by all that was taken."""

    keeps_records: bool = True
    taken: list[Taken] = field(default_factory=list)
    voided: list[Taken] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    @property
    def sequence(self) -> int:
        return self.taken[-1].sequence if self.taken else 0

    @property
    def booked(self) -> int:
        """How many records."""
        return len(self._seen)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for batch in self.taken for record in batch.records]

    def sums(self) -> Sums:
        sums: Sums = Counter()
        for batch in self.taken:
            sums.update(batch.sums)
        return Sums({key: amount for key, amount in sums.items() if amount})

    def take(self, manifest: dict[str, Any], content: bytes) -> None:
        """Book one batch, or raise `Refused` and book nothing."""
        self._check_chain(manifest)
        if hashlib.sha256(content).hexdigest() != manifest["sha256"] or len(content) != manifest["size_bytes"]:
            raise Altered(f"the content of {manifest['sequence']} is not what its manifest says")
        records = tuple(json.loads(line) for line in content.splitlines())
        running = self._check_totals(manifest, records)
        ids = tuple(record["id"] for record in records)
        if len(set(ids)) < len(ids) or not self._seen.isdisjoint(ids):
            raise Repeated(f"{manifest['sequence']} has a record that was booked before")
        sums: Sums = Counter()
        for record in records:
            sums[record["tenant_id"], record["currency"]] += nano(record["amount"])
        self._seen |= set(ids)
        kept = records if self.keeps_records else ()
        self.taken.append(Taken(manifest["epoch"], manifest["sequence"], manifest["chain"], running, ids, sums, kept))

    def void_from(self, sequence: int) -> None:
        """The feed was restored from a backup: what had these numbers was never so, and comes anew."""
        gone = [batch for batch in self.taken if batch.sequence >= sequence]
        self.taken = [batch for batch in self.taken if batch.sequence < sequence]
        self.voided += gone
        self._seen -= {each for batch in gone for each in batch.ids}

    def _check_chain(self, manifest: dict[str, Any]) -> None:
        bare = manifest | {"chain": ""}
        chain = hashlib.sha256(json.dumps(bare, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
        if manifest["feed"] != "rated-usage" or manifest["format"] != 1 or chain != manifest["chain"]:
            raise Altered(f"the manifest of {manifest['sequence']} is not what the feed wrote")
        if manifest["sequence"] <= self.sequence:
            raise Repeated(f"{manifest['sequence']} was booked before")
        if manifest["sequence"] != self.sequence + 1:
            raise Missing(f"after {self.sequence} comes {manifest['sequence']}")
        before = self.taken[-1].chain if self.taken else None
        if manifest["previous"] != before:
            raise Altered(f"{manifest['sequence']} does not follow what was booked before")

    def _check_totals(self, manifest: dict[str, Any], records: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        counts: Counter[tuple[str, str]] = Counter()
        amounts: Counter[tuple[str, str]] = Counter()
        running = dict(self.taken[-1].running) if self.taken else {}
        for record in records:
            key = record["kind"], record["currency"]
            counts[key] += 1
            amounts[key] += nano(record["amount"])
            number, amount = running.get(record["currency"], (0, 0))
            running[record["currency"]] = number + 1, amount + nano(record["amount"])
        said = {(one["kind"], one["currency"]): (one["records"], nano(one["amount"])) for one in manifest["totals"]}
        if said != {key: (counts[key], amounts[key]) for key in counts}:
            raise Altered(f"the totals of {manifest['sequence']} are not those of its records")
        so_far = {one["currency"]: (one["records"], nano(one["amount"])) for one in manifest["running"]}
        if so_far != running or manifest["records_before"] != self.booked:
            raise Altered(f"the running totals of {manifest['sequence']} are not those of what was booked")
        return running


@dataclass
class FileConsumer:
    """Takes the files of a folder, in order."""

    folder: Path
    bss: FakeBss = field(default_factory=FakeBss)

    def run(self) -> int:
        """Take all that is new; how many batches. Raises `Refused`."""
        latest = self._latest()
        self._look_for_restore(latest)
        before = len(self.bss.taken)
        while self.bss.sequence < latest["sequence"]:
            manifest = self._manifest(self.bss.sequence + 1)
            try:
                content = (self.folder / manifest["file"]).read_bytes()
            except FileNotFoundError:
                raise Missing(manifest["file"]) from None
            self.bss.take(manifest, content)
        if self.bss.taken and self.bss.taken[-1].chain != latest["chain"]:
            raise Altered("the newest batch is not the one that the feed names")
        return len(self.bss.taken) - before

    def _latest(self) -> dict[str, Any]:
        try:
            latest: dict[str, Any] = json.loads((self.folder / "rated-usage-latest.json").read_bytes())
        except FileNotFoundError:
            raise Missing("nothing says which batch is the newest") from None
        if latest["epoch"] == (self.bss.taken[-1].epoch if self.bss.taken else "") and (
            latest["sequence"] < self.bss.sequence
        ):
            raise Altered("the feed went back")
        return latest

    def _look_for_restore(self, latest: dict[str, Any]) -> None:
        if not self.bss.taken or latest["epoch"] <= self.bss.taken[-1].epoch:
            return
        newer = [
            manifest
            for manifest in (json.loads(path.read_bytes()) for path in self.folder.glob("*.manifest.json"))
            if manifest["epoch"] > self.bss.taken[-1].epoch
        ]
        self.bss.void_from(min(manifest["sequence"] for manifest in newer))

    def _manifest(self, sequence: int) -> dict[str, Any]:
        # Of several with one number the last one's epoch is the newest.
        found = sorted(self.folder.glob(f"rated-usage-{sequence:012d}-*.manifest.json"))
        if not found:
            raise Missing(f"there is no batch {sequence}")
        manifest: dict[str, Any] = json.loads(found[-1].read_bytes())
        if manifest["sequence"] != sequence or found[-1].name != manifest["file"].replace(".jsonl", ".manifest.json"):
            raise Altered(f"{found[-1].name} is another batch's")
        return manifest


def nano(amount: str) -> int:
    return int(Decimal(amount) * 10**9)
