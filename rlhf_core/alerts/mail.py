"""Send an e-mail."""

import re
import smtplib
import ssl
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from rlhf_core.config import Settings
from rlhf_core.errors import Unavailable

TIMEOUT_S = 10.0
MAX_SUBJECT_CHARS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def send_mail(address: str, subject: str, text: str, *, settings: Settings) -> None:
    """Send a plain text. Raises Unavailable, with a sentence, where the server does not take it."""
    if not settings.smtp_host or not settings.smtp_from:
        raise Unavailable("E-mail is not set up: set RLHF_SMTP_HOST and RLHF_SMTP_FROM.")
    try:
        message = EmailMessage()
        message["From"] = settings.smtp_from
        message["To"] = address
        # A line break in a header would begin another header.
        message["Subject"] = _CONTROL.sub(" ", subject)[:MAX_SUBJECT_CHARS]
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=settings.smtp_from.rpartition("@")[2] or None)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        with _connect(settings) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password)
            server.send_message(message)
    except (OSError, smtplib.SMTPException, MessageError, ValueError) as error:
        said = str(error) or type(error).__name__
        raise Unavailable(f"{settings.smtp_host} does not take it ({said[:200]}).") from error


def _connect(settings: Settings) -> smtplib.SMTP:
    host, port = settings.smtp_host, settings.smtp_port
    if settings.smtp_security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
    server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    if settings.smtp_security == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except (OSError, smtplib.SMTPException):
            server.close()
            raise
    return server
