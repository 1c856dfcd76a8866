"""Plans as JSON, put together from pieces that were written once for each version.

A plan is mostly what its version has said of itself before: quality, sizes, and a list of layers that begins the same way for every
configuration. Writing all of that anew takes several times as long as planning.
"""

from __future__ import annotations

import json
from itertools import accumulate
from json.encoder import encode_basestring

from accordion.artifact.strict_json import dump
from accordion.planning import Plan, PlanTable

__all__ = ["PlanWriter"]


class PlanWriter:
    """Writes the plans of one version: the same bytes as `dump(plan.to_json())`, without the closing brace."""

    def __init__(self, table: PlanTable) -> None:
        self._layers = table.manifest.layers
        pieces = [
            dump({"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type}).decode() + ","
            for layer in self._layers
        ]
        self._text = "".join(pieces)
        self._at = list(accumulate(map(len, pieces), initial=0))  # where each layer begins in that
        self._counts = [rung.layers for rung in table.ladder.configurations]
        manifest = json.dumps(table.manifest.digest)
        self._heads, self._middles, self._bytes = [], [], [rung.bytes for rung in table.ladder.configurations]
        for k, rung in enumerate(table.ladder.configurations):
            quality = dump(rung.quality.to_json()).decode()
            self._heads.append(f',"manifest":{manifest},"configuration":{k},"quality":{quality},"bytes_to_send":')
            self._middles.append(f',"bytes_total":{rung.bytes},"expected_s":')

    def first(self, name: str, k: int, expected_s: float) -> str:
        """The plan of all that configuration `k` needs, whole."""
        size = self._bytes[k]
        return (
            f'{{"name":{encode_basestring(name)}{self._heads[k]}{size}{self._middles[k]}{expected_s!r},'
            f'"ranges":[{f"[0,{size - 1}]" if size else ""}],"layers":[{self._text[: self._at[self._counts[k]] - 1]}]}}'
        )

    def open_object(self, plan: Plan) -> str:
        """The plan as a JSON object to which more can be added: a comma and a member, or the closing brace."""
        k = plan.configuration
        count = self._counts[k]
        first = count - len(plan.layers)
        if plan.layers == self._layers[first:count]:  # they run up to the configuration's last, as they do but between versions
            layers = self._text[self._at[first] : self._at[count] - 1] if first < count else ""
        else:
            layers = dump(plan.to_json()["layers"]).decode()[1:-1]
        ranges = ",".join([f"[{start},{end}]" for start, end in plan.ranges])
        text = (
            f'{{"name":{encode_basestring(plan.name)}{self._heads[k]}{plan.bytes_to_send}{self._middles[k]}{plan.expected_s!r},'
            f'"ranges":[{ranges}],"layers":[{layers}]'
        )
        if plan.promised is not None:
            text += f',"promised":{plan.promised!r}'
        if plan.expected_j is not None:
            text += f',"expected_j":{plan.expected_j!r}'
        return text
