"""KMS hosts that cloud providers run for machines inside their own network, by name.

Names from Microsoft's "custom routes to enable KMS activation" (Azure) and Google's image test scripts. Addresses are
left out on purpose: two Microsoft articles contradict each other about them.
"""

from typing import Final

CLOUD_HOSTS: Final = {
    "azkms.core.windows.net": "Azure",
    "kms.core.windows.net": "Azure",
    "azkms.core.usgovcloudapi.net": "Azure US Government",
    "kms.core.usgovcloudapi.net": "Azure US Government",
    "azkms.core.chinacloudapi.cn": "Azure China",
    "kms.core.chinacloudapi.cn": "Azure China",
    "kms.core.cloudapi.de": "Azure Germany",
    "kms.windows.googlecloud.com": "Google Cloud",
}
"""Provider by host name."""
