//! The generated CRDs are those in `config/crd`.

use sallyport_api::crds;

#[test]
fn the_crds_in_the_tree_are_the_generated_ones() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd");
    for crd in crds() {
        let yaml = serde_saphyr::to_string(&crd).expect("serializable");
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        sallyport_test_support::assert_golden(format!("{folder}/{name}"), &yaml);
    }
}
