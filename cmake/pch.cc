// SPDX-License-Identifier: Apache-2.0
// Holds nothing: it exists so that one target can own the precompiled header.
