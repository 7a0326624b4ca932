"""A member's state once it is as new as somebody who asks knows it to be."""

from __future__ import annotations

import asyncio

from sappers.errors import OutcomeUnknown
from sappers.model.cluster_state import ClusterState
from sappers.ports import MemberService

CATCH_UP_SECONDS = 5.0
_LOOK_SECONDS = 0.01


async def state_at_least(
    service: MemberService, index: int, term: int = 0, *, seconds: float = CATCH_UP_SECONDS
) -> ClusterState:
    """This member's replica of the state, once it includes an entry of the log.

    Args:
        term: Of the entry; 0 where the caller does not know it.

    Raises:
        OutcomeUnknown: This member does not get so far in time.
    """
    try:
        async with asyncio.timeout(seconds):
            # Its log may become another one meanwhile, so no changes of this one are waited for.
            while True:
                state = service.log.state()
                if state.is_as_new_as(index, term):
                    return state
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise OutcomeUnknown(
            f"{service.me.name} has not caught up with index {index}",
            hint="ask another member: --addr",
        ) from None
