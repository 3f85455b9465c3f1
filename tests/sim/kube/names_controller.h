/* SPDX-License-Identifier: Apache-2.0 */
/* csi-controller and csi-node are programs of their own that share some names: those of the one,
 * where both are in one program (an option -include of CMakeLists.txt). */
#ifndef SIM_KUBE_NAMES_CONTROLLER_H
#define SIM_KUBE_NAMES_CONTROLLER_H

#include "tests/sim/kube/names_objects.h"

#define act_on_pool          controller_act_on_pool
#define act_on_replica       controller_act_on_replica
#define act_on_snapshot      controller_act_on_snapshot
#define act_on_volume        controller_act_on_volume
#define must_alloc           controller_must_alloc
#define plan_pool            controller_plan_pool
#define plan_replica         controller_plan_replica
#define plan_snapshot        controller_plan_snapshot
#define plan_volume          controller_plan_volume
#define service_methods      controller_service_methods
#define service_method_count controller_service_method_count

#endif
