//! The certificate authority: its files, and what it signs.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use sha2::{Digest as _, Sha256};
use sosna_broker::{Address, CaError, CertificateAuthority, spki_sha256};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer as _, X509Certificate},
};

use crate::hub::request;

const DEVICE: Address = Address([0xab; 20]);
const DAY: Duration = Duration::from_secs(86_400);

fn make() -> (tempfile::TempDir, CertificateAuthority) {
    let folder = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::create(folder.path().join("ca")).unwrap();
    (folder, ca)
}

#[test]
fn what_is_made_can_be_opened_and_never_made_again() {
    let (folder, ca) = make();
    let path = folder.path().join("ca/ca.pem");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path().join("ca")).unwrap().mode() & 0o777, 0o700);
    let names: Vec<_> =
        fs::read_dir(folder.path().join("ca")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["ca.pem"]);

    let text = fs::read(&path).unwrap();
    assert!(matches!(CertificateAuthority::create(folder.path().join("ca")), Err(CaError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), text);

    let opened = CertificateAuthority::open(folder.path().join("ca")).unwrap();
    assert_eq!(opened.spki_sha256(), ca.spki_sha256());
    assert_eq!(opened.certificate(), ca.certificate());
    let again = CertificateAuthority::open_or_create(folder.path().join("ca")).unwrap();
    assert_eq!(again.trust(), ca.trust());
    // What it signs after being opened chains to the same certificate.
    let (csr, _) = request("x");
    let issued = opened.sign_device_csr(&csr, &DEVICE, SystemTime::now(), DAY).unwrap();
    verify(&issued.der, ca.certificate());
}

#[test]
fn the_pin_is_the_hash_of_the_public_key_info() {
    let (_folder, ca) = make();
    let (_, parsed) = X509Certificate::from_der(ca.certificate()).unwrap();
    let expected: [u8; 32] = Sha256::digest(parsed.public_key().raw).into();
    assert_eq!(ca.spki_sha256(), expected);
    assert_eq!(spki_sha256(ca.certificate()), Some(expected));
    assert_eq!(spki_sha256(b"not a certificate"), None);
    let mut longer = ca.certificate().to_vec();
    longer.push(0);
    assert_eq!(spki_sha256(&longer), None);

    assert!(parsed.is_ca());
    let years =
        (parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp()) / 86_400 / 365;
    assert_eq!(years, 10);
    assert!(!format!("{ca:?}").contains("PRIVATE"));
}

#[test]
fn exposed_missing_and_damaged_files_are_told_apart() {
    let (folder, _) = make();
    let (folder, path) = (folder.path().join("ca"), folder.path().join("ca/ca.pem"));
    let open = || CertificateAuthority::open(&folder).unwrap_err();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open();
    assert!(matches!(error, CaError::Exposed { mode: 0o640, .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let text = fs::read_to_string(&path).unwrap();
    let (_other_folder, other) = make();
    let foreign = text.split_inclusive("-----END PRIVATE KEY-----").next().unwrap().to_owned()
        + "\n"
        + &other.trust().pem();
    for damaged in ["", "nonsense", &text[..text.len() / 2], &foreign] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(open(), CaError::Damaged { .. }), "{damaged:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(), CaError::File { .. }));
}

#[test]
fn nothing_of_a_request_counts_but_its_key() {
    let (_folder, ca) = make();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut greedy = CertificateParams::new(vec!["hub.example".into(), "127.0.0.1".into()]).unwrap();
    greedy.distinguished_name.push(DnType::CommonName, "admin");
    greedy.distinguished_name.push(DnType::OrganizationName, "Operators");
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    greedy.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
    let csr = greedy.serialize_request(&key).unwrap();

    let now = SystemTime::now();
    let issued = ca.sign_device_csr(csr.der(), &DEVICE, now, 7 * DAY).unwrap();
    verify(&issued.der, ca.certificate());
    assert_eq!(issued.authority, *ca.certificate());
    let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
    assert_eq!(parsed.subject().to_string(), format!("CN={DEVICE}"));
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert_eq!(parsed.extensions().iter().filter(|one| one.oid.to_id_string() == "1.2.3.4").count(), 0);

    assert_eq!(parsed.raw_serial(), issued.serial.0);
    let seconds = |time: SystemTime| {
        i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
    };
    assert_eq!(parsed.validity().not_before.timestamp(), seconds(now - DAY));
    assert_eq!(parsed.validity().not_after.timestamp(), seconds(now + 7 * DAY));
    assert_eq!(seconds(issued.not_after), seconds(now + 7 * DAY));

    let again = ca.sign_device_csr(csr.der(), &DEVICE, now, 7 * DAY).unwrap();
    assert_ne!(again.serial, issued.serial);
}

#[test]
fn a_request_must_prove_that_its_author_holds_the_key() {
    let (_folder, ca) = make();
    let (csr, _) = request("x");
    let sign = |csr: &[u8]| ca.sign_device_csr(csr, &DEVICE, SystemTime::now(), DAY);
    assert!(sign(&csr).is_ok());

    // Someone else's key in one's own request.
    let (victim, _) = request("x");
    let point = |csr: &[u8]| csr.windows(3).position(|at| at == [0x42, 0x00, 0x04]).unwrap() + 2;
    let (from, to) = (point(&victim), point(&csr));
    let mut stolen = csr.clone();
    stolen[to..to + 65].copy_from_slice(&victim[from..from + 65]);
    assert!(matches!(sign(&stolen), Err(CaError::Request(_))));

    let (_, whole) = X509CertificationRequest::from_der(&csr).unwrap();
    let signed = whole.certification_request_info.raw.len() + 4;
    for place in 0..csr.len() {
        let mut changed = csr.clone();
        changed[place] ^= 0x01;
        // A bit of the encoding around the signature may not matter; what is signed always does.
        assert!(sign(&changed).is_err() || place > signed, "byte {place} does not matter");
        assert!(sign(&csr[..place]).is_err(), "{place} bytes are enough");
    }
    let mut longer = csr.clone();
    longer.push(0);
    assert!(matches!(sign(&longer), Err(CaError::Request("bytes follow it"))));
    assert!(matches!(sign(&[0x30; 5000]), Err(CaError::Request("it is longer than any honest one"))));
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(matches!(sign(csr.der()), Err(CaError::Request("its key is not a P-256 key"))));
    }
}

#[test]
fn impossible_dates_are_errors() {
    let (_folder, ca) = make();
    let (csr, _) = request("x");
    let sign = |validity| ca.sign_device_csr(&csr, &DEVICE, SystemTime::now(), validity);
    assert!(matches!(sign(Duration::MAX), Err(CaError::Dates)));
    assert!(matches!(sign(Duration::from_secs(9000 * 366 * 86_400)), Err(CaError::Dates)));
}

#[test]
fn a_rotation_survives_being_interrupted_anywhere() {
    let (folder, mut ca) = make();
    let folder = folder.path().join("ca");
    let first = ca.spki_sha256();
    assert!(matches!(ca.promote_next(), Err(CaError::NoNext)));
    let second = ca.prepare_next().unwrap();
    assert_ne!(first, second);
    assert_eq!(ca.prepare_next().unwrap(), second, "preparing twice makes one");
    assert_eq!(ca.spki_sha256(), first, "it does not sign yet");
    assert_eq!(ca.trust().pins(), [first, second]);

    // A restart before the promotion.
    let mut ca = CertificateAuthority::open(&folder).unwrap();
    assert_eq!(ca.trust().pins(), [first, second]);

    // A crash within it, after the copy: everybody is still trusted, and it can be done again.
    fs::copy(folder.join("ca.pem"), folder.join("previous.pem")).unwrap();
    let between = CertificateAuthority::open(&folder).unwrap();
    assert_eq!((between.spki_sha256(), between.trust().pins()), (first, vec![first, second, first]));

    ca.promote_next().unwrap();
    assert_eq!(ca.trust().pins(), [second, first]);
    let mut ca = CertificateAuthority::open(&folder).unwrap();
    assert_eq!((ca.spki_sha256(), ca.trust().pins()), (second, vec![second, first]));
    ca.retire_previous().unwrap();
    ca.retire_previous().unwrap();
    let ca = CertificateAuthority::open(&folder).unwrap();
    assert_eq!(ca.trust().pins(), [second]);
    assert_eq!(ca.trust().pem().matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn a_listeners_certificate_names_what_devices_dial() {
    let (_folder, ca) = make();
    let names = ["hub.example".to_owned(), "192.0.2.7".into(), "2001:db8::7".into(), "localhost".into()];
    let identity = ca.issue_server(&names, SystemTime::now(), 30 * DAY).unwrap();
    assert_eq!(identity.chain().len(), 2);
    assert_eq!(identity.chain()[1], *ca.certificate());
    verify(&identity.chain()[0], ca.certificate());
    let (_, parsed) = X509Certificate::from_der(&identity.chain()[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 6, "four names and the two loopback addresses");
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    assert!(!parsed.is_ca());
    assert!(matches!(ca.issue_server(&["hüb".into()], SystemTime::now(), 30 * DAY), Err(CaError::Issue(_))));
}

/// Panics unless `authority` signed `certificate`.
fn verify(certificate: &[u8], authority: &[u8]) {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    let (_, authority) = X509Certificate::from_der(authority).unwrap();
    assert_eq!(certificate.issuer(), authority.subject());
    certificate.verify_signature(Some(authority.public_key())).unwrap();
}
