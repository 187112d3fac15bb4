"""Where alerts go: what settings say, as channels."""

from typing import TYPE_CHECKING, cast

from gnomon.flows.settings import Settings
from gnomon.storage.errors import NotFound

if TYPE_CHECKING:
    from gnomon.validations.alerts import Alert, AlertAction

__all__ = ["BlockWebhook", "channels_of"]


class BlockWebhook:
    """Posts alerts to the URL that a Prefect block of type Secret holds, loaded with the first.

    Parameters
    ----------
    name : str
        Name of the block.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"BlockWebhook({self._name!r})"

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
            secret = cast(Secret[str], Secret.load(self._name))
        except ValueError:
            raise NotFound(
                f"Prefect has no block {self._name!r} of type Secret; make it there, or set "
                "GNOMON_WEBHOOK_BLOCK to the name of another"
            ) from None
        WebhookAlert(secret.get())(alert)


def channels_of(settings: Settings) -> "dict[str, AlertAction]":
    """Return the channels that a run's settings name; their names stand in log records.

    Raises
    ------
    InvalidInput
        The address of a webhook is none.
    """
    from gnomon.validations.alerts import FileAlert, LogAlert, WebhookAlert

    channels: dict[str, AlertAction] = {"log": LogAlert()}
    if settings.alerts is not None:
        channels["file"] = FileAlert(settings.alerts)
    if settings.webhook is not None:
        channels["webhook"] = WebhookAlert(settings.webhook.get_secret_value())
    if settings.webhook_block is not None:
        channels["block"] = BlockWebhook(settings.webhook_block)
    return channels
