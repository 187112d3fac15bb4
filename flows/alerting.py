"""Where alerts go: what settings and the user say, as channels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from gnomon.flows.settings import Settings, named_urls
from gnomon.storage.entrypoints import choose, registered, take
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.outbox import CHANNEL, MOST_CHANNELS

if TYPE_CHECKING:
    from gnomon.validations.alerts import Alert, Channel

__all__ = ["BUILT_IN", "GROUP", "BlockWebhook", "channels_of"]

BUILT_IN = ("log", "file", "webhook", "block", "event", "apprise")
"""Names that no other channel may have, whether a run uses them or not."""
GROUP = "gnomon.alerts"
"""Entry points of channels; the setting `channels` names them."""


class BlockWebhook:
    """Posts alerts to the URL that a Prefect block of type Secret holds, loaded with the first.

    Parameters
    ----------
    name : str
        Name of the block.
    """

    name = "block"

    def __init__(self, name: str) -> None:
        self._block = name

    def __repr__(self) -> str:
        return f"BlockWebhook({self._block!r})"

    def __call__(self, alert: "Alert") -> None:
        """Post the alert.

        Raises
        ------
        NotFound
            There is no such block.
        Unavailable
            The server of the webhook did not take the alert.
        """
        from prefect.blocks.system import Secret

        from gnomon.validations.alerts import WebhookAlert

        try:
            secret = cast(Secret[str], Secret.load(self._block))
        except ValueError:
            raise NotFound(
                f"Prefect has no block {self._block!r} of type Secret; make it there, or set "
                "GNOMON_WEBHOOK_BLOCK to the name of another"
            ) from None
        WebhookAlert(secret.get())(alert)


def channels_of(
    settings: Settings, custom_channels: Sequence["Channel"] = ()
) -> "dict[str, Channel]":
    """Return the channels of a run by name; their names stand in log records.

    Parameters
    ----------
    settings
        Name the built-in channels, and those of installed packages.
    custom_channels
        Channels of the user's own.

    Raises
    ------
    InvalidInput
        The address of a webhook is none, Apprise is not installed or does not know a URL, an
        installed channel cannot be loaded, or names are none, taken or too many.
    """
    from gnomon.validations.alerts import FileAlert, LogAlert, WebhookAlert

    channels: list[Channel] = [LogAlert()]
    if settings.alerts is not None:
        channels.append(FileAlert(settings.alerts))
    if settings.webhook is not None:
        channels.append(WebhookAlert(settings.webhook.get_secret_value()))
    if settings.webhook_block is not None:
        channels.append(BlockWebhook(settings.webhook_block))
    by_name = {channel.name: channel for channel in channels}
    if settings.apprise is not None:
        from gnomon.validations.apprising import AppriseAlert, AppriseProcess

        process = AppriseProcess()
        for name, url in named_urls(settings.apprise.get_secret_value()).items():
            if name != "apprise":
                _check_name(name, by_name)
            by_name[name] = AppriseAlert(url, name, process)
    for channel in (*_installed(settings.channels), *custom_channels):
        if isinstance(channel, type):  # called with an alert, it would make an object, and be done
            raise InvalidInput(
                f"the class {channel.__name__} is no alert channel; give an object of it"
            )
        if not _is_channel(channel):
            raise InvalidInput(
                f"{type(channel).__name__} is no alert channel: it must have a name, and be "
                "callable with an alert"
            )
        _check_name(channel.name, by_name)
        by_name[channel.name] = channel
    if len(by_name) >= MOST_CHANNELS:  # a flow adds one, of Prefect's events
        raise InvalidInput(f"there are {len(by_name)} alert channels; keep to {MOST_CHANNELS - 1}")
    return by_name


def _is_channel(channel: object) -> bool:
    return callable(channel) and isinstance(getattr(channel, "name", None), str)


def _check_name(name: str, taken: "dict[str, Channel]") -> None:
    if not CHANNEL.fullmatch(name):
        raise InvalidInput(f"an alert channel is called {name!r}; expected 1 to 32 letters a-z")
    if name in BUILT_IN:
        raise InvalidInput(
            f"an alert channel is called {name!r}, as a built-in one is; choose another name"
        )
    if name in taken:
        raise InvalidInput(f"two alert channels are called {name!r}; rename one")


def _installed(names: str | None) -> "list[Channel]":
    """Return the channels of installed packages that a setting names."""
    channels = []
    for name in names.split(",") if names else ():
        if name in BUILT_IN:
            raise InvalidInput(
                f"GNOMON_CHANNELS names {name!r}, which is built in; leave it out there, and set "
                "it by its own setting"
            )
        entries = [entry for entry in registered(GROUP) if entry.name == name]
        if not entries:
            there = ", ".join(sorted({e.name for e in registered(GROUP)})) or "none"
            raise InvalidInput(
                f"GNOMON_CHANNELS names {name!r}, which no installed package has in {GROUP}; "
                f"there are {there}"
            )
        channel = take(choose(entries), _is_channel, "channel")
        if getattr(channel, "name", None) != name:
            raise InvalidInput(
                f"the entry point {name!r} of {GROUP} gives a channel named "
                f"{getattr(channel, 'name', None)!r:.40}; give both one name"
            )
        channels.append(channel)
    return channels
