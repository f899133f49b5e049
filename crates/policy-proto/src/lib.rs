//! Protobuf of the filter configuration, grant and session resources, and their conversion to policy types.
