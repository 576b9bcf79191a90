"""The English texts of slmgr.vbs, Vista to Server 2025, and the words that its names and descriptions are made of.

Source: the string constants of slmgr.vbs. Patterns are without white space: see :mod:`kmsdiag.evidence.tools.labelled`.
"""

from typing import Final

from kmsdiag.evidence.tools.labelled import Label, Vocabulary

GUID: Final = r"\{?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\}?"
PID: Final = r"\d{5}-\d{5}-\d{3}-\d{6}-\d{2}-\d{3,5}-\d{3,6}\.\d{4}-\d{7}"
HOST: Final = r"(?:\[[0-9a-f:.%]+\]|[\w*](?:[\w.-]*[\w.])?)(?::\d{1,5})?|[0-9a-f]*:[0-9a-f:.]+"
CODE: Final = r"0x[0-9a-f]{8}"

_NUMBER: Final = r"-?\d+"
_MINUTES: Final = r"\d+(?:minute(?:\(s\)|s)?)?(?:\(-?\d+days?(?:\(s\))?\))?\.?"
_INTERVAL: Final = r"\d+(?:minutes?)?\.?"
_MACHINE: Final = r"(?:machine|computer)"
_NAME: Final = "(?:machine|computer)name"
_STATES: Final = (
    r"unlicensed|licensed|initialgraceperiod|additionalgraceperiod(?:\(.*\))?|non-?genuinegraceperiod\.?|notification"
    r"|extendedgraceperiod|unknown"
)

STATES: Final = {
    "unlicensed": 0,
    "licensed": 1,
    "initialgraceperiod": 2,
    "additionalgraceperiod": 3,
    "non-genuinegraceperiod": 4,
    "nongenuinegraceperiod": 4,
    "notification": 5,
    "extendedgraceperiod": 6,
    "unknown": -1,
}
"""LicenseStatus by its text without white space."""

LABELS: Final = (
    Label("version", "Softwarelicensingserviceversion:", r"\d+(?:\.\d+)*"),
    Label("name", "Name:", ends="edition"),
    Label("description", "Description:", ends="channel"),
    Label("activation_id", "ActivationID:", GUID),
    Label("application_id", "ApplicationID:", GUID),
    Label("extended_pid", "ExtendedPID:", rf"(?:{PID})?"),
    Label("channel", "ProductKeyChannel:", r"[\w:]*"),
    Label("installation_id", "InstallationID:", r"[\d-]*"),
    Label(
        "certificate",
        "(?:(?:Processor|Machine|ProductKey)Certificate|UseLicense|Validation)URL:",
        r"(?:https?://\S*)?",
    ),
    Label("partial_key", "PartialProductKey:", r"\w{5}"),
    Label("not_in_use", r"Thislicenseisnotinuse\.?", ""),
    Label("status", "LicenseStatus:", _STATES, words=True),
    Label(
        "remaining",
        "(?:(?:Volumeactivation|Timebasedactivation|AutomaticVMactivation)expiration|Timeremaining):",
        _MINUTES,
        words=True,
    ),
    Label("evaluation_end", "EvaluationEndDate:"),
    Label("reason", "NotificationReason:", rf"{CODE}(?:\([\w-]+\))?\.?", words=True),
    Label("windows_rearms", "Remaining(?:Windows)?rearmcount:", _NUMBER),
    Label("product_rearms", "RemainingSKUrearmcount:", _NUMBER),
    Label("app_rearms", "RemainingApprearmcount:", _NUMBER),
    Label("trusted_time", "Trustedtime:"),
    Label("activation_type", "ConfiguredActivationType:", "All|AD|KMS|Token"),
    Label("heading", "(?:Mostrecentactivationinformation:|KeyManagementServiceclientinformation)", ""),
    Label(
        "never_asked",
        r"Pleaseuseslmgr\.vbs/atotoactivate(?:andupdateKMSclientinformationinordertoupdatevalues\.?)?",
        "",
    ),
    Label("client_machine_id", rf"Client{_MACHINE}ID\(CMID\):", GUID),
    Label("registered", f"RegisteredKMS{_NAME}:", HOST),
    Label("discovered", f"KMS{_NAME}fromDNS:", HOST),
    Label("no_host", "DNSauto-?discovery:KMSnamenotavailable", ""),
    Label("lookup_domain", "RegisteredKMSSRVrecordlookupdomain:", HOST),
    Label("host_address", f"KMS{_MACHINE}IPaddress:", r"(?:[0-9a-f.:%]+|notavailable)"),
    Label("host_pid", f"KMS{_MACHINE}extendedPID:", rf"(?:{PID})?"),
    Label("activation_interval", "Activationinterval:", _INTERVAL, words=True),
    Label("renewal_interval", "Renewalinterval:", _INTERVAL, words=True),
    Label("caching", "KMShostcachingis", "enabled|disabled"),
    # --- a KMS host
    Label("host", f"KeyManagementServiceisenabledonthis{_MACHINE}", ""),
    Label("count", "Currentcount:", _NUMBER),
    Label("port", "ListeningonPort:", r"\d{1,5}"),
    Label("publishing", "DNSpublishing", "(?:enabled|disabled)"),
    Label("priority", "KMSpriority:", "Normal|Low"),
    Label("cumulative", "KeyManagementServicecumulativerequestsreceivedfromclients", ""),
    Label("total", "Totalrequestsreceived:", _NUMBER),
    Label("failed", "Failedrequestsreceived:", _NUMBER),
    Label("requests_unlicensed", "RequestswithLicenseStatusUnlicensed:", _NUMBER),
    Label("requests_licensed", "RequestswithLicenseStatusLicensed:", _NUMBER),
    Label("requests_initial_grace", "RequestswithLicenseStatusInitialgraceperiod:", _NUMBER),
    Label("requests_expired", "RequestswithLicenseStatusLicenseexpiredorHardwareoutoftolerance:", _NUMBER),
    Label("requests_non_genuine", "RequestswithLicenseStatusNon-genuinegraceperiod:", _NUMBER),
    Label("requests_notification", "RequestswithLicenseStatusNotification:", _NUMBER),
    # --- other ways of activation
    Label("ad", "ADActivationclientinformation", ""),
    Label("ad_object", "ActivationObjectname:"),
    Label("ao_detail", "AO(?:DN|extendedPID|activationID):"),
    Label("avma", "AutomaticVMActivationclientinformation", ""),
    Label("vm_host", f"Host{_NAME}:"),
    Label("avma_detail", "(?:GuestIAID|Activationtime|HostDigitalPID2):"),
    Label(
        "token",
        r"(?:Token-basedActivationinformation|LicenseID\(ILID\):|VersionID\(ILvID\):|GrantNumber:"
        "|CertificateThumbprint:|AdditionalInformation:)",
    ),
    # --- /xpr
    Label("permanent", r"The(?:machine|computer)ispermanentlyactivated\.?", ""),
    Label("will_expire", "(?:Volume|Timebased|AutomaticVM)activationwillexpire"),
    Label("grace_ends", "(?:Initial|Additional|Non-genuine|Extended)graceperiodends"),
    Label("notification_mode", r"WindowsisinNotificationmode\.?", ""),
    # --- /ato
    Label(
        "activating", r"Activating(?=[^:]{3,200}\([0-9a-f]{8}-)", rf".{{3,200}}\({GUID}\)(?:\.\.\.|\u2026)?", words=True
    ),
    Label("activated", r"Productactivatedsuccessfully\.?", ""),
    Label("failed_activation", r"Error:Productactivationfailed\.?", ""),
    Label("error", r"Error:(?=0x)", rf"{CODE}.*", words=True),
    Label("remote_error", r"Error(?=0x[0-9a-f]{1,8}occurredin)", rf"{CODE}occurredin.*", words=True),
    # --- answers to commands that set something
    Label("override_warning", r"Warning:/skmssetting(?:overridesthe/skms-domainsetting|isineffect)\.?"),
    Label("domain_warning", r"Warning:/skms-domainsettingisineffect\.?"),
    Label("connected", "Connectedtoserver", r"[\w-]+(?:\.[\w-]+)*\.?"),
    # --- ospp.vbs has labels of the same wording
    Label(
        "ospp",
        r"(?:PRODUCTID:|SKUID:|LICENSENAME:|LICENSEDESCRIPTION:|LICENSESTATUS:-{2,}|ERRORCODE:|REMAININGGRACE:"
        r"|Last5charactersofinstalledproductkey:|\*{3}ID:|-{3}Processing-|ActivationTypeConfiguration:)",
        "",
    ),
)

_WORDS: Final = """
Windows Windows(R) Windows(TM) Vista Vista(TM) Operating System Server Server(R) Microsoft Office Computer Client KMS
Enterprise EnterpriseS EnterpriseN Business Professional ProfessionalN Education ServerStandard ServerDatacenter
ServerEnterprise ServerStandardCore ServerTurbine KMSHost edition channel period grace
VOLUME_KMSCLIENT VOLUME_KMS VOLUME_KMS_C VOLUME_KMS_R2_C VOLUME_KMS_W10 VOLUME_MAK RETAIL RETAIL(MAK)
OEM_DM OEM_SLP OEM_COA_NSLP TIMEBASED_EVAL VIRTUAL_MACHINE_ACTIVATION
2003 2008 2010 2013 2016 2019 2022 2025 - 7 8 8.1 10 11 14 15 16 19 21 24 R2 GMT AM PM
"""

WORDS: Final = frozenset(_WORDS.split())
"""What names and descriptions are made of: a line may end within such a word."""

SLMGR: Final = Vocabulary(LABELS, WORDS)
