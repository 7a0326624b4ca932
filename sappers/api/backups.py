"""Backups over the API: the state as it is now, and pieces of one that is given back."""

from __future__ import annotations

import asyncio

from sappers.api.call import PROPOSE_TIMEOUT_SECONDS, Call
from sappers.api.catching_up import state_at_least
from sappers.api.wire import BackupQuery, EventsFrom, OlderEvents, WantedRestore, Written
from sappers.decisions.backup import portable, unpacked, with_piece
from sappers.errors import ApiError, CommandRefused
from sappers.model.backup import TakenState
from sappers.model.codec import encode_state
from sappers.model.commands import NoOperation, RestorePiece

CATCH_UP_SECONDS = 10.0


async def take(call: Call) -> TakenState:
    """POST /v1/backup: an entry goes through the log, and the state is no older than it.

    Where nobody can commit any more, what this member knows may be all that is left.
    """
    query: BackupQuery = call.query
    if query.consistency == "linearizable":
        barrier = await call.service.propose(call.proposal(NoOperation()), PROPOSE_TIMEOUT_SECONDS)
        state = await state_at_least(
            call.service, barrier.index, barrier.term, seconds=CATCH_UP_SECONDS
        )
    else:
        state = call.service.log.state()
    state = portable(state)
    found = [await call.service.images.signed(digest) for digest in sorted(state.images)]
    encoded = await asyncio.to_thread(encode_state, state)
    return TakenState(state.index, encoded, tuple(one for one in found if one is not None))


async def put_events(call: Call) -> EventsFrom:
    """PUT /v1/events."""
    wanted: OlderEvents = call.body
    try:
        return EventsFrom(await call.service.events.take_older(wanted.events))
    except OSError as error:
        raise ApiError(f"the events are not written down: {error.strerror}", status=507) from error


async def restore(call: Call) -> Written:
    """PUT /v1/restore/{digest}.

    Raises:
        CommandRefused: The pieces are no backup, or the cluster takes none.
    """
    wanted: WantedRestore = call.body
    piece = RestorePiece(
        call.path.digest, wanted.number, wanted.count, wanted.content, replace=wanted.replace
    )
    pieces = with_piece(call.service.log.state(), piece)
    if all(pieces):  # what no voter would take does not come into the log
        await asyncio.to_thread(unpacked, pieces, piece.digest)
    applied = await call.service.propose(call.proposal(piece), PROPOSE_TIMEOUT_SECONDS)
    if applied.refused:
        raise CommandRefused(applied.refused)
    return Written(applied.index, applied.term)
