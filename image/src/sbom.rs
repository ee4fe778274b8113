//! The list of all that an image ships, as an SPDX 2.3 document.
//! Source: spdx.github.io/spdx-spec/v2.3. Licences are not guessed: the packages' own texts are in the image.

use serde_json::{Value, json};
use sosna_apt::digest;

use crate::Error;
use crate::compose::{Parts, Request};
use crate::package::Pin;

/// The document's text.
///
/// # Errors
/// [`Error::Malformed`]: never.
pub(crate) fn document(request: &Request<'_>, parts: &Parts) -> Result<String, Error> {
    let name = format!("sosna-{}-{}", request.board.name, request.version);
    let mut packages: Vec<Value> = request.board.lock.packages.iter().map(debian).collect();
    for (id, program) in [("sosna-agent", request.agent), ("sosna-init", request.init)] {
        packages.push(json!({
            "SPDXID": format!("SPDXRef-{id}"),
            "name": id,
            "versionInfo": request.version,
            "supplier": "Organization: Sosna",
            "downloadLocation": env!("CARGO_PKG_REPOSITORY"),
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": env!("CARGO_PKG_LICENSE"),
            "copyrightText": "NOASSERTION",
            "checksums": [{ "algorithm": "SHA256", "checksumValue": digest::of(program).hex() }],
        }));
    }
    let relationships: Vec<Value> = packages
        .iter()
        .map(|package| {
            json!({
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            })
        })
        .collect();
    let lock = digest::of(request.board.lock.to_text()?.as_bytes()).hex();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("{}/spdx/{name}-{lock}", env!("CARGO_PKG_REPOSITORY")),
        "creationInfo": {
            "created": timestamp(u64::from(request.epoch)),
            "creators": [format!("Tool: sosna-image-{}", env!("CARGO_PKG_VERSION"))],
        },
        "comment": format!("kernel {}; sources: `sosna-image sources`", parts.release),
        "packages": packages,
        "relationships": relationships,
    });
    serde_json::to_string_pretty(&document).map_err(|error| Error::malformed("the list of packages", error))
}

fn debian(pin: &Pin) -> Value {
    let id: String =
        pin.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let version: String = pin.version.replace(':', "%3A").replace('+', "%2B").replace('~', "%7E");
    let reference = format!(
        "pkg:deb/debian/{}@{version}?arch={}&distro={}",
        pin.name.replace('+', "%2B"),
        pin.arch,
        pin.suite
    );
    json!({
        "SPDXID": format!("SPDXRef-deb-{id}"),
        "name": pin.name,
        "versionInfo": pin.version,
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "sourceInfo": format!("built from the Debian source packages {}", pin.sources().join(", ")),
        "checksums": [{ "algorithm": "SHA256", "checksumValue": pin.sha256 }],
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": reference,
        }],
    })
}

/// Seconds since 1970 as RFC 3339 writes them.
#[must_use]
pub(crate) fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`, for dates after 1970.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_735_689_599), "2024-12-31T23:59:59Z");
    }
}
