//! The root certificates that the functions trust.

use crate::environment::Environment;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// The roots of Amazon Trust Services, to which the certificates of AWS's endpoints lead: Amazon Root CA 1 to 4, and Starfield
/// Services Root Certificate Authority - G2. <https://www.amazontrust.com/repository/>
///
/// Reading the system's more than one hundred roots would add two fifths to the CPU time of every start
/// (docs/PERFORMANCE.md).
const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// Whether Amazon's roots are enough: the function calls only AWS's own endpoints of a commercial region. Otherwise it trusts
/// the roots of the system, or of the file or directory that `SSL_CERT_FILE` or `SSL_CERT_DIR` names: if the environment names
/// certificates, another endpoint or a proxy (which may have its own certificate), and for FIPS endpoints and the other
/// partitions, some of which have certificates of other authorities. <https://aws.amazon.com/compliance/fips/>
fn amazons_roots_suffice(environment: &Environment, region: &str) -> bool {
    let is_set = |name: &str| environment.get(name).is_some();
    let is_https = |name: &str| environment.get(name).is_some_and(|url| !url.starts_with("http://"));
    let own_roots = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().any(is_set);
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().any(is_set);
    let own_endpoint = ["", "_DYNAMODB", "_KINESIS", "_SECRETS_MANAGER", "_SQS"]
        .into_iter()
        .any(|service| is_https(&format!("AWS_ENDPOINT_URL{service}")));
    let fips = environment.is_true("AWS_USE_FIPS_ENDPOINT");
    is_commercial(region) && !(own_roots || proxy || own_endpoint || fips)
}

/// Whether a region is one of the partition `aws`: an area, a direction and a number.
/// <https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json>
fn is_commercial(region: &str) -> bool {
    const AREAS: [&str; 9] = ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"];
    let mut parts = region.split('-');
    let area = parts.next().is_some_and(|area| AREAS.contains(&area));
    let direction = parts.next().is_some_and(|direction| direction.bytes().all(|byte| byte.is_ascii_lowercase()));
    let number = parts.next().is_some_and(|number| number.parse::<u8>().is_ok());
    area && direction && number && parts.next().is_none()
}

/// The HTTP client of the SDK: the default client with these roots. It also uses the proxy in `HTTPS_PROXY`.
pub(crate) fn http_client(environment: &Environment, region: &str) -> SharedHttpClient {
    let trusted = if amazons_roots_suffice(environment, region) {
        TrustStore::empty().with_pem_certificate(AMAZON_ROOTS)
    } else {
        TrustStore::default()
    };
    Builder::new().build_with_connector_fn(move |settings, components| {
        let context = TlsContext::builder().with_trust_store(trusted.clone()).build();
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            // It never fails: the certificates are read by `build` below, and by a test.
            .tls_context(context.unwrap_or_default());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(region: &str, variables: &[(&str, &str)], suffice: bool) {
        assert_eq!(
            amazons_roots_suffice(&variables.iter().copied().collect(), region),
            suffice,
            "{region} {variables:?}"
        );
    }

    #[test]
    fn amazons_roots_are_trusted_if_only_its_own_endpoints_are_called() {
        check("us-east-1", &[], true);
        check("ap-southeast-5", &[("SSL_CERT_FILE", "")], true);
        check("eu-central-1", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")], true);
        for region in [
            "cn-north-1",
            "us-gov-west-1",
            "us-iso-east-1",
            "eusc-de-east-1",
            "eu-isoe-west-1",
            "",
            "us-east",
            "us-east-1-x",
        ] {
            check(region, &[], false);
        }
        check("us-east-1", &[("SSL_CERT_FILE", "/etc/ssl/cert.pem")], false);
        check("us-east-1", &[("SSL_CERT_DIR", "/etc/ssl/certs")], false);
        check("us-east-1", &[("HTTPS_PROXY", "http://proxy:3128")], false);
        check("us-east-1", &[("AWS_USE_FIPS_ENDPOINT", "True")], false);
        check("us-east-1", &[("AWS_USE_FIPS_ENDPOINT", "false")], true);
        check("us-east-1", &[("AWS_ENDPOINT_URL", "https://localhost:4566")], false);
        check("us-east-1", &[("AWS_ENDPOINT_URL_KINESIS", "https://kinesis.test")], false);
        check("us-east-1", &[("AWS_ENDPOINT_URL_SQS", "https://sqs.test")], false);
    }

    #[tokio::test]
    async fn the_five_roots_of_amazon_can_be_read() {
        assert_eq!(AMAZON_ROOTS.matches("BEGIN CERTIFICATE").count(), 5);
        let environment = Environment::from_iter([("AWS_REGION", "us-east-1")]);
        // A new client creates a connector, which panics if a certificate is invalid.
        drop(aws_sdk_dynamodb::Client::new(&crate::config::sdk(&environment).await.unwrap()));
    }
}
