"""Secrets are hidden in whatever form a text carries them; ordinary text stays as it is."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.redaction import HIDDEN, credential_in, redacted, redacted_values

SECRET = "wJalr+Xut/nFE%2F"
"""Like a secret key: with a slash, a plus and something that looks encoded."""

SECRETS = {
    "user and password": f"https://me:{SECRET}@host:8080/x.zarr",
    "key and secret": f"s3://AKIA0000:{SECRET}@bucket/x",
    "user alone": f"https://{quote(SECRET, safe='')}@host/x",
    "user and no password": f"https://{quote(SECRET, safe='')}:@host/x",
    "ssh with a password": f"ssh://me:{SECRET}@host/x",
    "container with a key": f"abfs://me:{SECRET}@account.dfs.core.windows.net/x",
    "scheduler": f"tls://me:{SECRET}@[::1]:8786",
    "chained": f"simplecache::s3://AKIA0000:{SECRET}@bucket/x.nc",
    "chained twice": f"zip://*.nc::simplecache::s3://AKIA0000:{SECRET}@bucket/x.zip",
    "sig": f"https://h/x?sv=2024&se=2030&sp=r&sig={SECRET}",
    "presigned": f"https://h/x?X-Amz-Credential={SECRET}&X-Amz-Date=1&X-Amz-Signature={SECRET}",
    "security token": f"https://h/x?x-amz-security-token={SECRET}",
    "case": f"https://h/x?a=1&Access_Token={SECRET}#top",
    "encoded name": f"https://h/x?%74oken={SECRET}",
    "fragment": f"https://h/x#access_token={SECRET}",
    "old S3": f"https://h/x?AWSAccessKeyId={SECRET}&Signature={SECRET}",
    "words": f"https://h/x?key={SECRET}&api_key={SECRET}&password={SECRET}&secret={SECRET}",
    "kerchunk": f"reference://?fo=s3://AKIA0000:{SECRET}@bucket/x.json&remote_protocol=s3",
    "kerchunk, encoded": "reference://?fo="
    + quote(f"s3://AKIA0000:{SECRET}@bucket/x.json", safe="")
    + "&remote_protocol=s3",
    "encoded twice": "https://h/x?u=" + quote(quote(f"https://h/y?sig={SECRET}", safe=""), safe=""),
    "repr of options": f"{{'key': 'x', 'secret': '{SECRET}', 'password': '{SECRET}'}}",
    "debug of a URL": f'Url {{ username: "me", password: Some(\n "{SECRET}",\n) }}',
    "environment": f"AWS_SECRET_ACCESS_KEY={SECRET} AWS_SESSION_TOKEN={SECRET}",
    "connection string": f"AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
    "basic": f"'Authorization': 'Basic {SECRET}'",
    "bearer": f"authorization: Bearer {SECRET}",
    "bearer, without a header": f"401 of the server to Bearer {SECRET}7",
    "free text": f"login failed, password: {SECRET}, user: me; client_key : {SECRET}",
    "free text, close": f"password:{SECRET}",
    "free text, other names": f"pwd: {SECRET}; passphrase: {SECRET}, api key: {SECRET}",
    "bearer of letters": f"Bearer {SECRET.replace('2', 'x') * 2}",
    "what S3 replies": f"<AWSAccessKeyId>{SECRET}</AWSAccessKeyId>",
    "digits and a slash, no port in S3": f"s3://AKIA0000:40/{SECRET}@bucket/x",
    "nor in Azure, chained": f"simplecache::abfss://me:7/{SECRET}@container/x",
    "subscription": f"https://h/x?subscription-key={SECRET}",
    "any key of two words": f"https://h/x?a=1&client_key={SECRET}&Ocp-Apim.master-key={SECRET}",
    "function": f"https://h/x?code={SECRET}",
    "short names": f"https://h/x?pw={SECRET}&jwt={SECRET}",
    "repr of bytes": f"{{'account_key': b'{SECRET}', 'client_key': '{SECRET}'}}",
    "debug of bytes": f'password: Some(\n b"{SECRET}",\n)',
    "a header of bytes": f"{{b'Authorization': b'Bearer {SECRET}', 'x': 1}}",
    "repr of a token": f"{{'token': '{SECRET}', \"token\": b'{SECRET}'}}",
    "an argument": f"GCSFileSystem(token='{SECRET}', project=None) token={SECRET}",
    "a header": f"x-amz-security-token:{SECRET}",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("around", ["{}", "cannot open '{}': it failed", '(see {}), "{}"'])
def test_secrets_are_hidden(text: str, around: str) -> None:
    said = redacted(around.replace("{}", text))
    for form in (SECRET, quote(SECRET, safe=""), quote(quote(SECRET, safe=""), safe="")):
        assert form not in said
    assert "Xut" not in said
    assert "nFE" not in said
    assert HIDDEN in said
    assert redacted(said) == said, "hidden once is hidden for good"
    assert credential_in(text) is not None
    assert credential_in(redacted(text)) is None


ORDINARY = [
    "created by me@example.org, see https://example.org/~me@home",
    "/data/time=12:00@x/sst.zarr",
    "file:///data/time=12:00@x/sst.zarr",
    r"C:\data\me@x\sst.zarr",
    "s3://bucket/time=12:00@x/sst.zarr?versionId=3",
    "https://host:8080/x@y?time=12:00@z",
    "ssh://me@host/data/x.nc",
    "sftp://me@host:22/data/x.nc",
    "abfs://container@account.dfs.core.windows.net/x.zarr",
    "hdfs://me@namenode:8020/x",
    "github://organisation:repository@main/x.nc",
    "tcp://[::1]:8786",
    "tcp://dask-scheduler:8786",
    "memory://a@b",
    "zip://*.nc::s3://bucket/x.zip",
    "s3://bucket:40/x",
    "{'token': None}; tokens='3', broken=1",
    "sort_key='lat' and chunk_key=0.0",
    "https://h/x?zipcode=1&encode=2&monkey_keys=3",
    "https://h/x?monkey=1&keyboard=2&sst[0:1][0:4]",
    "https://h/x?variable=sst&sp=1&sv=2",
    "100%25 of 5% and %2e",
    "the secret key is wrong",
    "key: 'lat' has no token",
    "no index found for key='lat'; unexpected token: '}'",
    "units: 'K', password",
    "a bearer token is needed; the bearer of it may read",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text
    assert credential_in(text) is None


@given(st.text(st.characters(exclude_characters='@"<>', exclude_categories=("Z", "C")), min_size=4))
def test_any_password_is_hidden_once_it_is_encoded(password: str) -> None:
    said = redacted(f"cannot open https://me:{quote(password, safe='')}@host/x")
    assert said == f"cannot open https://{HIDDEN}@host/x"


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_values_are_redacted_wherever_they_are() -> None:
    url = "https://me:pw@host/x"
    assert redacted_values({"a": [url, 1, None], url: {"b": (url,)}}) == {
        "a": [f"https://{HIDDEN}@host/x", 1, None],
        f"https://{HIDDEN}@host/x": {"b": [f"https://{HIDDEN}@host/x"]},
    }
