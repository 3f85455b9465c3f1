/* SPDX-License-Identifier: Apache-2.0 */
/* What lib/objects and the nexus both call so. */
#ifndef SIM_KUBE_NAMES_OBJECTS_H
#define SIM_KUBE_NAMES_OBJECTS_H

#define volume_state_name  objects_volume_state_name
#define replica_state_name objects_replica_state_name

#endif
